"""docs/own-data.md works as printed: in an empty folder, with images and a CSV, on the toy."""

import re
import shlex

from PIL import Image, ImageDraw

from plphp_core.cli.entry_point import COMMANDS, command
from tests.docs.pages import ROOT, blocks, text


def test_a_folder_of_images_and_a_csv_become_a_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs/own-data.md"
    prepare, functions = blocks(page, "python")
    task, label = blocks(page, "yaml")
    for folder in ("photos", "tasks/mine", "configs/tasks"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "photos/metadata.csv").write_text(*blocks(page, "csv"))
    for number, colour in enumerate(("red", "green")):
        image = Image.new("RGB", (96, 96), (140, 140, 140))
        ImageDraw.Draw(image).polygon([(18, 64), (31, 77), (18, 90), (5, 77)], fill=colour)
        image.save(tmp_path / f"photos/{number}.png")
    exec(prepare, {})
    for content, name in ((task, "plphp_my_photos.yaml"), (functions, "mine.py"), (label, "my_photos.yaml")):
        (place,) = re.findall(rf"`([\w/]+/{name})`", text("docs/own-data.md"))
        (tmp_path / place).write_text(content)
    run, report = (line for line in blocks(page, "bash")[-1].splitlines())
    for line in (run, report):
        _, name, *arguments = shlex.split(line)
        assert name in COMMANDS and command(name, arguments) == 0
    table = (tmp_path / "results/toy/sweep.md").read_text(encoding="utf-8")
    assert "My photos" in table and len(re.findall(r"^\| PLPHP ", table, re.M)) == 2 and "Uncompressed" in table
