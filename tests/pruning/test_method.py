"""What a method is called and what it is made of."""

from plphp_core import make_method


def test_equal_methods_have_equal_parameters_however_they_were_written():
    """They go into keys: 0 on a command line must not be another cell than 0.0 in a table."""
    written = [make_method("plphp", r=1, delta_r=0), make_method("plphp", r=1.0, delta_r=0.0)]
    assert written[0] == written[1]
    assert [repr(method.params()) for method in written] == [repr(written[1].params())] * 2
    assert repr(make_method("fastv", K=3, R=1).params()) == "{'K': 3, 'R': 1.0, 'rows': 'last'}"
