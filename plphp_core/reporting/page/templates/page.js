"use strict";
// The sample browser and what the page does beyond reading. Everything that comes from data enters the document as text
// (textContent), never as mark-up.
(() => {
  const PAGE = 25, LONG = 2000, MARKED = 50_000; // samples; characters shown at first, and at most marked
  const byId = (id) => document.getElementById(id);
  const meta = JSON.parse(byId("meta").textContent);
  const phone = matchMedia("(max-width: 60rem)");

  /** An element with properties, classes and children; strings become text. */
  function make(tag, options = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (name === "class") element.className = value;
      else if (name.includes("-") || name === "role" || name === "scope") element.setAttribute(name, value);
      else element[name] = value;
    }
    element.append(...children.filter((child) => child !== null && child !== ""));
    return element;
  }
  const drawn = (tag, attributes, ...children) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  const PAPERS = ["none", "fastv", "vtw", "plphp"]; // their colours are the style sheet's, as they differ in the dark
  /** An element whose dots and bars have the colour of a row's method. */
  function coloured(row, tag, ...children) {
    const known = PAPERS.includes(row.method), element = make(tag, { class: known ? `m-${row.method}` : "" }, ...children);
    if (!known) element.style.setProperty("--dot", row.colour);
    return element;
  }

  // -- pieces: inside the page, or scripts beside it ------------------------------------------------------------------
  const pieces = new Map(), waiting = new Map();
  window.receivePiece = (name, value) => waiting.get(name)?.(value);
  function piece(name) {
    if (!pieces.has(name)) {
      const found = meta.folder ? beside(name) : Promise.resolve().then(() => JSON.parse(byId(`piece-${name}`).textContent));
      pieces.set(name, found);
      found.catch(() => pieces.delete(name));
    }
    return pieces.get(name);
  }
  function beside(name) {
    return new Promise((resolve, reject) => {
      const script = make("script", { src: `${meta.folder}/${name}.js` });
      const end = () => { waiting.delete(name); script.remove(); };
      waiting.set(name, (value) => { end(); resolve(value); });
      script.onerror = () => { end(); reject(new Error(`${meta.folder}/${name}.js cannot be loaded; keep that folder beside the page`)); };
      document.head.append(script);
    });
  }

  // -- numbers as text ------------------------------------------------------------------------------------------------
  const known = (value) => value !== null && value !== undefined;
  const fixed = (value, digits) => (known(value) ? value.toFixed(digits).replace("-", "−") : "n/a");
  const percent = (value, digits = 1) => (known(value) ? `${fixed(100 * value, digits)}%` : "n/a");
  const bytes = (value) => !known(value) ? "n/a" : value >= 2 ** 30 ? `${fixed(value / 2 ** 30, 2)} GiB` : value >= 2 ** 20 ? `${fixed(value / 2 ** 20, 2)} MiB` : `${fixed(value / 2 ** 10, 1)} KiB`;
  const signed = (value, digits) => (value > 0 ? "+" : "") + fixed(value, digits);
  const words = (text) => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];

  // -- what is shown --------------------------------------------------------------------------------------------------
  const controls = byId("controls");
  if (!controls) { plain(); return; }
  const field = controls.elements, list = byId("list"), status = byId("status");
  const state = { set: 0, page: 0, hidden: new Set(), order: [], turn: 0 };
  const current = () => meta.sets[state.set];
  let pause = 0; // until a search begins
  const texts = new Map(); // set → sample → lower-case text that a search looks through

  function fill(select, labels, chosen = 0) {
    select.replaceChildren(...labels.map((label, value) => make("option", { value, textContent: label })));
    select.value = String(Math.min(chosen, labels.length - 1));
  }
  function choose(number) {
    state.set = number;
    state.page = 0;
    const set = current(), models = [...new Set(meta.sets.map((one) => one.model))], labels = set.rows.map((row) => row.label);
    fill(field.model, models, models.indexOf(set.model));
    const same = meta.sets.map((one, at) => [one, at]).filter(([one]) => one.model === set.model);
    field.benchmark.replaceChildren(...same.map(([one, at]) => make("option", { value: at, textContent: `${one.benchmark} (${one.n})` })));
    field.benchmark.value = String(number);
    fill(field.metric, set.metrics);
    const pruned = set.rows.findLastIndex((row) => row.method === "plphp" && !row.swept), plainRow = set.rows.findIndex((row) => row.method === "none");
    fill(field.a, labels, Math.max(0, pruned));
    fill(field.b, labels, Math.max(0, plainRow));
    state.hidden = new Set(swept());
    controls.querySelector("fieldset").replaceChildren(make("legend", { class: "hush", textContent: "Methods shown" }), ...set.rows.map((row, at) => {
      const box = make("input", { type: "checkbox", checked: !row.swept });
      box.addEventListener("change", () => { box.checked ? state.hidden.delete(at) : state.hidden.add(at); update(); });
      return coloured(row, "label", box, make("span", { class: "dot" }), row.label);
    }));
    byId("notes").replaceChildren(...set.notes.map((note) => make("p", { class: "notice", textContent: note })));
    return update();
  }

  /** Places of the rows that are hidden until they are chosen. */
  const swept = () => current().rows.flatMap((row, at) => (row.swept ? [at] : []));
  /** An empty search and the usual methods again. */
  function reset() {
    clearTimeout(pause);
    field.query.value = "";
    state.hidden = new Set(swept());
    controls.querySelectorAll("fieldset input").forEach((box, at) => { box.checked = !state.hidden.has(at); });
    update();
  }

  /** What samples are sorted by: a function of a sample's place in the index; null where it is unknown. */
  function key(index) {
    const a = Number(field.a.value), b = Number(field.b.value), scores = index.scores[Number(field.metric.value)] ?? [];
    if (field.sort.value === "score") return (at) => scores[a]?.[at] ?? null;
    if (field.sort.value === "kept") return (at) => index.kept[a][at];
    return (at) => (known(scores[a]?.[at]) && known(scores[b]?.[at]) ? scores[a][at] - scores[b][at] : null);
  }
  async function found(query) {
    const set = current(), number = state.set, turn = state.turn, matching = [];
    if (!texts.has(number)) texts.set(number, []);
    const kept = texts.get(number);
    for (let start = 0; start < set.n; start += meta.chunk) {
      if (kept[start] === undefined) {
        const [rows, documents] = await chunk(number, start / meta.chunk);
        for (let at = 0; at < Math.min(meta.chunk, set.n - start); at += 1) {
          const given = documents ? [documents[at][0], ...documents[at][1]] : [];
          kept[start + at] = { given: given.join("\n").toLowerCase(), rows: rows.map((row) => (row[at]?.[0] ?? "").toLowerCase()) };
        }
        if (meta.folder) status.textContent = `Searching, ${Math.round(100 * start / set.n)}%`;
      }
      if (turn !== state.turn) return null;
      for (let at = start; at < Math.min(start + meta.chunk, set.n); at += 1) {
        if (kept[at].given.includes(query) || kept[at].rows.some((text, row) => !state.hidden.has(row) && text.includes(query))) matching.push(at);
      }
    }
    return matching;
  }
  const chunk = (number, at) => Promise.all([
    piece(`answers-${number}-${at}`), known(meta.sets[number].task) ? piece(`task-${meta.sets[number].task}-${at}`) : null,
  ]);

  /** Search and sort again, then show the first page or the one that holds sample `target` (a document's number). */
  function update(target = null) { return (state.shown = refresh(target)); }
  async function refresh(target) {
    const turn = ++state.turn, set = current(), sort = field.sort.value, query = field.query.value.trim().toLowerCase();
    for (const [name, uses] of [["metric", ["score", "difference"]], ["a", ["score", "difference", "kept"]], ["b", ["difference"]]]) field[name].parentElement.hidden = !uses.includes(sort);
    field.direction.parentElement.hidden = sort === "order";
    list.classList.toggle("unmarked", !field.marks.checked);
    list.setAttribute("aria-busy", "true");
    try {
      const index = await piece(`index-${state.set}`);
      let order = query ? await found(query) : index.documents.map((_, at) => at);
      if (turn !== state.turn || order === null) return;
      let said = "";
      if (sort !== "order") {
        const value = key(index), side = field.direction.value === "down" ? -1 : 1;
        order = [...order].sort((x, y) => {
          const [p, q] = [value(x), value(y)];
          return (p === null) - (q === null) || (p === null ? 0 : side * (p - q)) || x - y;
        });
        if (sort === "difference") {
          const values = order.map(value).filter(known), more = values.filter((one) => one > 0).length, less = values.filter((one) => one < 0).length;
          said = ` · ${set.rows[Number(field.a.value)].label} scores higher on ${more}, lower on ${less}, equal on ${values.length - more - less}`;
        }
      }
      state.order = order;
      const at = target === null ? -1 : order.findIndex((place) => index.documents[place] === target);
      state.page = at < 0 ? 0 : Math.floor(at / PAGE);
      await show(turn, index, said);
      if (turn !== state.turn || target === null) return;
      if (at >= 0) go(list.children[at % PAGE]);
      else lost();
    } catch (error) {
      status.textContent = `Samples cannot be shown: ${error.message}`;
    }
  }
  async function show(turn, index, said = "") {
    const set = current(), number = state.set, from = state.page * PAGE, places = state.order.slice(from, from + PAGE);
    const rendered = await Promise.all(places.map(async (place) => {
      const at = place % meta.chunk, [rows, documents] = await chunk(number, Math.floor(place / meta.chunk));
      const given = documents?.[at] ?? null;
      const images = await Promise.all((given?.[2] ?? []).map(async (where) => where && (await piece(`images-${where[0]}`))[where[1]]));
      return sample(set, number, index, place, rows.map((row) => row[at]), given, images);
    }));
    if (turn !== state.turn) return;
    list.replaceChildren(...rendered);
    list.setAttribute("aria-busy", "false");
    const last = Math.max(0, Math.ceil(state.order.length / PAGE) - 1);
    status.textContent = (state.order.length ? `Samples ${from + 1}–${from + places.length} of ${state.order.length}` : "No sample fits") + (state.order.length < set.n ? ` (${set.n} in all)` : "") + said;
    status.dataset.said = said;
    status.dataset.line = status.textContent;
    for (const pager of document.querySelectorAll(".pager")) {
      pager.hidden = last === 0;
      pager.querySelector(".page").textContent = `Page ${state.page + 1} of ${last + 1}`;
      pager.querySelector('[data-step="-1"]').disabled = state.page === 0;
      pager.querySelector('[data-step="1"]').disabled = state.page === last;
    }
  }
  async function turnPage(step, focus) {
    const last = Math.ceil(state.order.length / PAGE) - 1, wanted = state.page + step;
    if (wanted < 0 || wanted > last) return;
    state.page = wanted;
    try { await show(++state.turn, await piece(`index-${state.set}`), status.dataset.said); } catch (error) { status.textContent = error.message; return; }
    go(focus === "last" ? list.lastElementChild : list.firstElementChild);
  }
  function go(article) {
    article?.focus({ preventScroll: true });
    article?.scrollIntoView({ block: "start" });
  }

  // -- one sample -----------------------------------------------------------------------------------------------------
  /** Text of any length: the rest of a long one comes on demand. `present`: words to leave unmarked; null marks none. */
  function free(tag, text, present = null, options = {}) {
    const element = make(tag, { class: "free", dir: "auto", ...options });
    const put = (part) => {
      if (!present) { element.replaceChildren(part); return; }
      element.replaceChildren(...(part.match(/[\p{L}\p{N}]+|[^\p{L}\p{N}]+/gu) ?? []).map((run) => (/^[\p{L}\p{N}]/u.test(run) && !present.has(run.toLowerCase()) ? make("mark", { textContent: run }) : run)));
    };
    put(text.slice(0, LONG));
    if (text.length > LONG) {
      const all = make("button", { type: "button", class: "all", textContent: `Show all ${text.length.toLocaleString("en")} characters` });
      all.addEventListener("click", () => {
        const article = element.closest(".sample"), marked = present && text.length <= MARKED;
        if (!marked) element.replaceChildren(text, ...(present ? [make("span", { class: "meta", textContent: ` (words are not marked: longer than ${MARKED.toLocaleString("en")} characters)` })] : []));
        else put(text);
        article.focus({ preventScroll: true }); // the button that had it is gone
      });
      element.append("… ", all);
    }
    return element;
  }
  function bars(retention) {
    const wide = Math.max(2, Math.min(6, Math.floor(112 / retention.length))), high = 18;
    const said = "Vision tokens kept by layer: " + retention.map((share, layer) => `${layer}: ${percent(share, 0)}`).join(", ");
    const svg = drawn("svg", { class: "bars", role: "img", "aria-label": said, width: wide * retention.length, height: high });
    svg.append(drawn("title", {}, said));
    retention.forEach((share, layer) => {
      const height = Math.max(1, Math.round((share ?? 0) * high));
      svg.append(drawn("rect", { class: "room", x: layer * wide, y: 0, width: wide - 1, height: high }));
      svg.append(drawn("rect", { class: "held", x: layer * wide, y: high - height, width: wide - 1, height }));
    });
    return svg;
  }
  const cell = (name, text, ...more) => make("td", { class: "number", "data-name": name }, ...more, text);
  function answerRow(set, index, place, row, answer, present) {
    const head = coloured(set.rows[row], "th", make("span", { class: "dot" }), set.rows[row].label);
    head.scope = "row";
    if (!answer || answer.length === 2) return make("tr", {}, head, make("td", { class: "free failed", textContent: answer ? `no answer: ${answer[1]}` : "not asked" }));
    const [text, , fresh, kv, full, , step, retention] = answer;
    const line = coloured(set.rows[row], "tr", head, known(text) ? free("td", text === "" ? "(empty)" : text, present) : make("td", { class: "free failed", textContent: "the answer's text is not at hand" }));
    set.metrics.forEach((name, metric) => line.append(cell(name, known(index.scores[metric][row][place]) ? fixed(100 * index.scores[metric][row][place], 1) : "n/a")));
    line.append(cell("Vision kept", percent(index.kept[row][place]), retention.length ? bars(retention) : ""));
    line.append(cell("KV", `${bytes(kv)}${known(full) && full > 0 && kv < full ? ` (−${percent(1 - kv / full, 0)})` : ""}`));
    line.append(cell("New tokens", fixed(fresh, 0)), cell("ms/token", fixed(step, 2)));
    if (field.sort.value !== "order" && (row === Number(field.a.value) || (row === Number(field.b.value) && field.sort.value === "difference"))) line.classList.add("chosen");
    return line;
  }
  function numbers(set, answers) {
    const layers = Math.max(0, ...answers.map((answer) => answer?.[7]?.length ?? 0));
    const heads = ["Method", "Prompt tokens", "New tokens", "KV", "KV, nothing pruned", "Prefill ms", "ms/token", ...Array.from({ length: layers }, (_, layer) => `Layer ${layer}`)];
    const body = answers.flatMap((answer, row) => (state.hidden.has(row) || !answer || answer.length === 2 ? [] : [make("tr", {}, make("th", { scope: "row", textContent: set.rows[row].label }),
      ...[fixed(answer[1], 0), fixed(answer[2], 0), bytes(answer[3]), bytes(answer[4]), fixed(answer[5], 2), fixed(answer[6], 2), ...Array.from({ length: layers }, (_, layer) => percent(answer[7][layer]))].map((text) => make("td", { class: "number", textContent: text })))]));
    return make("div", { class: "scroll numbers", tabIndex: 0, role: "region", "aria-label": "Costs, and vision tokens kept by layer" }, make("table", { class: "pinned" },
      make("caption", {}, make("span", { textContent: "Costs, and vision tokens kept by layer" })),
      make("thead", {}, make("tr", {}, ...heads.map((text, at) => make("th", { scope: "col", class: at ? "number" : "", textContent: text })))), make("tbody", {}, ...body)));
  }
  function sample(set, number, index, place, answers, given, images) {
    const doc = index.documents[place], name = `${set.benchmark} ${doc}`, id = `sample-${number}-${doc}`, present = given ? new Set(given[1].flatMap(words)) : null;
    const value = field.sort.value === "order" ? null : key(index)(place), label = { score: "score", difference: "difference", kept: "vision kept" }[field.sort.value];
    const article = make("article", { class: "sample", id, tabIndex: -1, "aria-labelledby": `${id}-h` }, make("header", {},
      make("h3", { id: `${id}-h` }, make("a", { href: `#sample=${set.id}/${doc}`, textContent: name, title: "Link to this sample" })),
      field.sort.value === "order" ? "" : make("span", { class: "key", textContent: `${label} ${value === null ? "n/a" : field.sort.value === "difference" ? signed(100 * value, 1) : fixed(100 * value, 1)}` })));
    if (given) {
      const [question, references] = given;
      article.append(make("div", { class: "given" },
        make("div", { class: "images" }, ...images.map((source, at) => source ? picture(source, `Image ${at + 1} of ${name}`) : make("span", { class: "meta", textContent: "image cannot be shown" }))),
        make("div", { class: "text" }, make("span", { class: "tag", textContent: "Question" }), free("p", question), make("span", { class: "tag", textContent: references.length > 1 ? "References" : "Reference" }), make("ul", {}, ...references.map((text) => free("li", text))))));
    }
    const heads = ["Method", "Answer", ...set.metrics, "Vision kept", "KV", "New tokens", "ms/token"];
    article.append(make("table", { class: "answers" }, make("caption", { class: "hush", textContent: `Answers to ${name}` }), make("thead", {}, make("tr", {}, ...heads.map((text, at) => make("th", { scope: "col", class: at > 1 ? "number" : "", textContent: text.replaceAll("-", "\u2011") })))),
      make("tbody", {}, ...answers.flatMap((answer, row) => (state.hidden.has(row) ? [] : [answerRow(set, index, place, row, answer, present)])))));
    const more = make("details", {}, make("summary", { textContent: "Numbers: tokens, bytes, times, every layer" }));
    more.addEventListener("toggle", () => { if (more.open && more.children.length === 1) more.append(numbers(set, answers)); });
    article.append(more);
    return article;
  }
  function picture(source, alt) {
    const image = make("img", { src: source, alt }), button = make("button", { type: "button", "aria-label": `${alt}, larger` }, image);
    image.addEventListener("load", () => { if (image.naturalHeight <= 128) image.classList.add("small"); });
    button.addEventListener("click", () => {
      const dialog = byId("larger"), shown = dialog.querySelector("img");
      Object.assign(shown, { src: source, alt });
      shown.classList.toggle("small", image.naturalHeight <= 128);
      dialog.showModal();
    });
    return button;
  }

  // -- what the reader does -------------------------------------------------------------------------------------------
  /** Say that the address names no sample of this page. */
  function lost() {
    status.textContent = `${location.hash} leads to no sample of this page. ${status.dataset.line ?? ""}`;
    status.scrollIntoView({ block: "center" });
  }
  /** Show the sample that the address names with #sample=<set>/<document>, if it does. */
  function follow() {
    const [, name, doc] = /^#sample=([^/]+)\/(\d+)$/.exec(location.hash) ?? [], number = meta.sets.findIndex((one) => one.id === name);
    if (number < 0) {
      if (location.hash.startsWith("#sample=")) state.shown.then(lost);
      return;
    }
    field.query.value = "";
    field.sort.value = "order";
    if (number !== state.set) choose(number);
    update(Number(doc));
  }
  controls.addEventListener("submit", (event) => event.preventDefault());
  field.model.addEventListener("change", () => {
    const name = field.model.selectedOptions[0].textContent, wanted = current().benchmark, same = meta.sets.filter((one) => one.model === name);
    choose(meta.sets.indexOf(same.find((one) => one.benchmark === wanted) ?? same[0]));
  });
  field.benchmark.addEventListener("change", () => choose(Number(field.benchmark.value)));
  for (const name of ["sort", "metric", "a", "b", "direction", "marks"]) field[name].addEventListener("change", () => update());
  field.query.addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(update, 150); });
  for (const button of document.querySelectorAll(".pager button")) button.addEventListener("click", () => turnPage(Number(button.dataset.step)));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("larger").open) return;
    if (event.key === "Escape") { event.target.blur(); reset(); return; }
    if (event.target.matches("input:not([type=checkbox]), select, textarea")) return;
    if (event.key === "/") { event.preventDefault(); field.query.focus(); field.query.select(); return; }
    const step = { j: 1, n: 1, k: -1, p: -1 }[event.key];
    if (!step) return;
    const here = document.activeElement.closest?.(".sample"), next = here ? (step > 0 ? here.nextElementSibling : here.previousElementSibling) : list.firstElementChild;
    if (next) go(next); else turnPage(step, step < 0 ? "last" : "first");
  });
  addEventListener("hashchange", follow);
  controls.hidden = false;
  choose(0);
  follow();
  plain();

  // -- the rest of the page -------------------------------------------------------------------------------------------
  function plain() {
    document.documentElement.classList.add("scripted");
    const themes = ["", "light", "dark"], button = byId("theme");
    let theme = "";
    try { theme = localStorage.getItem("plphp-theme") ?? ""; } catch { /* a browser that keeps nothing */ }
    const dress = () => {
      document.documentElement.dataset.theme = theme;
      button.textContent = `Theme: ${theme || "as the system"}`;
      try { localStorage.setItem("plphp-theme", theme); } catch { /* it lasts as long as the page */ }
    };
    button.addEventListener("click", () => { theme = themes[(themes.indexOf(theme) + 1) % themes.length]; dress(); });
    button.hidden = false;
    dress();
    const contents = document.querySelector(".contents details");
    const fold = () => { contents.open = !phone.matches; };
    phone.addEventListener("change", fold);
    contents.addEventListener("click", (event) => { if (phone.matches && event.target.matches("a")) contents.open = false; });
    fold();
    const pin = (table) => {
      const stub = phone.matches ? 1 : Number(table.dataset.stub), widths = [];
      for (const row of table.rows) {
        if (row.cells.length <= stub && row.closest("thead") && row.className !== "groups") continue;
        let left = 0;
        [...row.cells].slice(0, Number(table.dataset.stub)).forEach((one, at) => {
          if (row.className === "groups" && one.tagName === "TH") return;
          one.classList.toggle("stuck", at < stub);
          one.style.left = at < stub ? `${left}px` : "";
          widths[at] ??= one.getBoundingClientRect().width;
          left += widths[at];
        });
      }
    };
    const pinAll = () => document.querySelectorAll("table[data-stub]").forEach((table) => { if (table.offsetWidth) pin(table); });
    const hint = (box) => box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 4);
    const fit = () => { pinAll(); document.querySelectorAll("main .scroll").forEach(hint); };
    document.addEventListener("scroll", (event) => { if (event.target.matches?.(".scroll")) hint(event.target); }, true);
    addEventListener("resize", fit);
    document.addEventListener("toggle", fit, true);
    fit();
    let opened = [];
    addEventListener("beforeprint", () => {
      opened = [...document.querySelectorAll("main details:not([open])")].filter((one) => !one.matches(".run, .methods, .sample details"));
      for (const one of opened) one.open = true;
    });
    addEventListener("afterprint", () => { for (const one of opened) one.open = false; });
  }
})();
