import json

import pytest

from densedet.core.errors import DataError
from densedet.plugins.sources._json_stream import ObjectStream

VALUE = {
    "info": {"deep": [1, [2, {"x": "]}"}]], "text": 'quotes \\" and ü 🙂 \u2028'},
    "images": [{"id": 12345, "name": "größe"}, {"id": -1.5e-3}, [], "text", 17, True, None, {"a": [1.25, 2]}],
    "empty": [],
    "number": 123456,
    "last": [1, 22, 333],
}


def walk(path, chunk):
    with ObjectStream(path, chunk=chunk) as stream:
        return {
            key: list(stream.entries()) if isinstance(VALUE[key], list) else None for key in stream.members()
        }


@pytest.mark.parametrize(
    "form", [{}, {"indent": 2}, {"separators": (",", ":")}, {"ensure_ascii": False, "indent": 0}]
)
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_cut_at_every_byte(tmp_path, form, bom):
    content = bom + json.dumps(VALUE, **form).encode()
    path = tmp_path / "a.json"
    path.write_bytes(content)
    for chunk in (*range(1, 40), len(content) - 1, len(content), 1 << 20):
        assert walk(path, chunk) == {k: v if isinstance(v, list) else None for k, v in VALUE.items()}, chunk


def test_values_may_be_taken_or_left(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(VALUE))
    with ObjectStream(path, chunk=3) as stream:
        assert list(stream.members()) == list(VALUE)


def test_a_digest_of_the_whole_file(tmp_path):
    import hashlib

    path = tmp_path / "a.json"
    path.write_text(json.dumps(VALUE))
    for chunk in (5, 1000):
        with ObjectStream(path, chunk=chunk) as stream:
            list(stream.members())
        assert stream.digest.hexdigest() == hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def test_progress(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(VALUE))
    seen = []
    with ObjectStream(path, chunk=50, on_progress=lambda done, total: seen.append((done, total))) as stream:
        list(stream.members())
    size = path.stat().st_size
    assert seen[-1] == (size, size)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"a": [1,\n 2,\n  x]}', "line 3, column 3: not JSON: Expecting value"),
        ('{"a": [{"b": 1,\n "c" 2}]}', "line 2, column 6: not JSON: Expecting ':' delimiter"),
        ('{"a": [1 2]}', r"line 1, column 10: not JSON: '2' where , or \] must stand"),
        ('{"a" 1}', "line 1, column 6: not JSON: '1' where : must stand"),
        ('{"a": "unfinished', "line 1, column 7: not JSON: Unterminated string"),
        ('{"a": [tru', "line 1, column 8: not JSON"),
        ("{", 'the file ends here where " must stand'),
        ('{"a": [1,]}', "line 1, column 10: not JSON: Expecting value"),
        ('{"a": "\t"}', "not JSON: Invalid control character"),
        ('{"a": ' + "[" * 50_000, "nested deeper"),
        ('{"a": {"b":' * 20_000, "nested deeper"),
    ],
)
def test_faults_have_their_place(tmp_path, text, sentence):
    path = tmp_path / "a.json"
    path.write_text(text)
    for chunk in (1, 2, 3, 7, 1 << 20) if len(text) < 1000 else (1000, 1 << 20):
        with pytest.raises(DataError, match=sentence), ObjectStream(path, chunk=chunk) as stream:
            list(stream.members())
