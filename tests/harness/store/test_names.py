import pytest

from harness.store.names import FILE, Names


def test_names_are_what_was_written(tmp_path):
    assert Names.read(tmp_path) == Names()
    names = Names({"b": "a"}, {"content": "listing"})
    names.write(tmp_path)
    assert Names.read(tmp_path) == names


def test_a_store_without_other_names_has_no_such_file(tmp_path):
    Names().write(tmp_path)
    assert not (tmp_path / FILE).exists()


def test_damaged_names_are_an_error_with_what_to_do(tmp_path):
    Names({"b": "a"}).write(tmp_path)
    path = tmp_path / FILE
    path.write_text(path.read_text().replace('"a"', '"c"'))
    with pytest.raises(ValueError, match=r"names\.json is damaged .*: restore it, or move it away"):
        Names.read(tmp_path)


def test_taking_code_for_earlier_code_makes_no_circle():
    names = Names().taking("b", "a").taking("c", "b").taking("a", "c").taking("c", "a")
    meaning, steps = "b", 0
    while meaning in names.code:
        meaning, steps = names.code[meaning], steps + 1
    assert steps <= len(names.code) and meaning == "a"
    assert Names().taking("b", "a").taking("c", "b").code == {"b": "a", "c": "b"}
