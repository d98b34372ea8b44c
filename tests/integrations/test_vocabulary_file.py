"""The file of words: what it may look like, and what is refused by name and line."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integrations.vocabulary_file import read_words
from regionspot.errors import InputError


def words_file(folder: Path, content: str | bytes) -> Path:
    path = folder / "words.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_word_a_line_with_comments_and_synonyms(tmp_path: Path) -> None:
    path = words_file(tmp_path, "# pets\ncat: kitten,  tabby  cat\n\ndog  # any breed\r\nhot dog\n")
    words = read_words(path)
    assert words.names == ("cat", "dog", "hot dog")
    assert words.synonyms == (("cat", "kitten", "tabby cat"), ("dog",), ("hot dog",))
    assert words.as_mapping()["cat"] == ["cat", "kitten", "tabby cat"]


def test_references_of_examples_are_no_synonyms(tmp_path: Path) -> None:
    path = words_file(
        tmp_path,
        "cart: trolley, @crops/ # by hand\nbox: @/runs/a#carton, @b#c d # two\ndog\n"
        "fork: @fiftyone:my set/ground_truth=pitch fork\n",
    )
    words = read_words(path)
    folder = tmp_path.resolve()
    assert words.synonyms == (("cart", "trolley"), ("box",), ("dog",), ("fork",))
    assert words.references_of("fork") == ("fiftyone:my set/ground_truth=pitch fork",)
    assert words.references_of("cart") == (str(folder / "crops"),)
    assert words.references_of("box") == ("/runs/a#carton", str(folder / "b#c d"))
    assert words.references_of("dog") == ()
    assert words.sha256 != read_words(words_file(tmp_path, "cart: trolley\nbox\ndog\n")).sha256
    with pytest.raises(InputError, match="line 1: expected `name`"):
        read_words(words_file(tmp_path, "cart: @\n"))


def test_a_byte_order_mark_is_no_part_of_the_first_word(tmp_path: Path) -> None:
    assert read_words(words_file(tmp_path, b"\xef\xbb\xbfcat\n")).names == ("cat",)


def test_words_are_compared_as_they_are_written(tmp_path: Path) -> None:
    words = (
        "Bass",
        "bass",
        "type_1",
        "type-1",
        "bolt (M6)",
        "bolt (M8)",
        "cup",
        "cups",
        "no",
        "on",
    )
    assert read_words(words_file(tmp_path, "\n".join(words))).names == words


def test_a_line_that_is_known_is_taken_whole(tmp_path: Path) -> None:
    path = words_file(tmp_path, " C#\nratio: 1\ncat: kitten # pets\n")
    assert read_words(path, {"C#", "ratio: 1"}).synonyms == (
        ("C#",),
        ("ratio: 1",),
        ("cat", "kitten"),
    )


def test_the_hash_is_that_of_the_words_alone(tmp_path: Path) -> None:
    plain = read_words(words_file(tmp_path, "cat\ndog\n")).sha256
    assert read_words(words_file(tmp_path, "# pets\n cat\n\ndog # all\n")).sha256 == plain
    assert read_words(words_file(tmp_path, "dog\ncat\n")).sha256 != plain


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ("", 1, "no word"),
        ("# only\n\n  # comments\n", 1, "no word"),
        ("cat\ndog\ncat\n", 3, "'cat' is on line 1 already"),
        ("CAT\n CAT\n", 2, "'CAT' is on line 1 already"),
        ("cat: kitten\nkitten\n", 2, "'kitten' is on line 1 already"),
        ("dog\nanimal: cat, dog\n", 2, "'dog' is on line 1 already"),
        ("caf\u00e9\ncafe\u0301\n", 2, "is on line 1 already"),
        ("cat: cat\n", 1, "the same line"),
        ("cat\n: dog\n", 2, "expected `name`"),
        ("cat:\n", 1, "expected `name`"),
        ("cat: kitten,, tom\n", 1, "expected `name`"),
        (b"cat\nd\xf6g\n", 2, "byte 2 of the line is not UTF-8"),
        ("cat\nd\x00g\n", 2, "cannot be printed"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_line(
    tmp_path: Path, content: str | bytes, line: int, said: str
) -> None:
    path = words_file(tmp_path, content)
    with pytest.raises(InputError) as caught:
        read_words(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: line {line}: ")
    assert said in message
    assert "\n" not in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.txt cannot be read: No such file"):
        read_words(tmp_path / "none.txt")


word = (
    st.text(st.characters(categories=["L", "N"], include_characters=" -'"), min_size=1, max_size=12)
    .map(lambda text: " ".join(text.split()))
    .filter(bool)
)
groups = st.lists(
    st.lists(word, min_size=1, max_size=4),
    min_size=1,
    max_size=8,
).filter(lambda lists: all_differ([each for group in lists for each in group]))


def all_differ(strings: list[str]) -> bool:
    import unicodedata

    keys = [unicodedata.normalize("NFC", string) for string in strings]
    return len(set(keys)) == len(keys)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(groups=groups, comment=st.text(st.characters(codec="utf-8", exclude_characters="\n")))
def test_what_is_written_is_read_back(
    tmp_path: Path, groups: list[list[str]], comment: str
) -> None:
    import unicodedata

    lines = [f"{name}: {', '.join(others)}" if others else name for name, *others in groups]
    path = words_file(tmp_path, "\n".join(f"  {line} #{comment}\n" for line in lines))
    expected = tuple(
        tuple(unicodedata.normalize("NFC", each) for each in group) for group in groups
    )
    assert read_words(path).synonyms == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=60))
def test_any_bytes_give_words_or_one_line_that_names_the_file(
    tmp_path: Path, content: bytes
) -> None:
    path = words_file(tmp_path, content)
    try:
        words = read_words(path)
    except InputError as error:
        message = str(error)
        assert message.startswith(f"{path}: line ")
        assert "\n" not in message
    else:
        assert len(words.names) == len(words.synonyms) > 0
        assert all_differ([each for group in words.synonyms for each in group])


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        ("yaml", "- {name: dog, synonyms: [puppy], group: animal}\n- no\n"),
        ("yml", "dog:\n  synonyms: puppy\n  group: animal\n'no':\n"),
        ("json", '[{"name": "dog", "synonyms": ["dog", "puppy"], "group": "animal"},\n\t"no"]'),
    ],
)
def test_entries_of_yaml_and_json(tmp_path: Path, suffix: str, content: str) -> None:
    path = tmp_path / f"words.{suffix}"
    path.write_text(content)
    words = read_words(path)
    assert words.synonyms == (("dog", "puppy"), ("no",))
    assert words.groups == ("animal", "")
    assert words.sha256 != read_words(words_file(tmp_path, "dog: puppy\nno\n")).sha256


def test_thresholds_and_background_words(tmp_path: Path) -> None:
    path = tmp_path / "words.yaml"
    path.write_text(
        "- {name: shadow, background: true}\n- {name: dog, threshold: 0.5}\n"
        "- {name: cat, synonyms: kitten, background: false}\n- {name: cup, threshold: 1}\n"
    )
    words = read_words(path)
    assert words.names == ("dog", "cat", "cup", "shadow")
    assert words.synonyms[1] == ("cat", "kitten")
    assert words.thresholds == (0.5, None, 1.0, None)
    assert words.own_thresholds() == {"dog": 0.5, "cup": 1.0}
    assert (words.written, words.background) == (3, 1)
    hashes = {words.sha256}
    for one, other in (("0.5", "0.6"), ("background: true", "background: false")):
        changed = tmp_path / "changed.yaml"
        changed.write_text(path.read_text().replace(one, other))
        hashes.add(read_words(changed).sha256)
    assert len(hashes) == 3


def test_prompts_stand_for_a_class(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text('{"a dog": "dog", "a cat": "cat", "a puppy": "dog"}')
    assert read_words(path).as_mapping() == {"dog": ["a dog", "a puppy"], "cat": ["a cat"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "entry 1: there is no word"),
        ('"dog"', "expected a list of words, or a mapping"),
        ('["dog", 3]', "entry 2: name: expected a text that is not empty, got 3"),
        ('["dog", {"synonyms": ["x"]}]', "entry 2: name: expected a text"),
        ('[{"name": "dog", "colour": "x"}]', "entry 1: expected the keys .* got 'colour'"),
        ('["dog", {"name": "cat", "synonyms": ["dog"]}]', "entry 2: 'dog' is on entry 1 already"),
        ('[{"name": "dog", "synonyms": ["@crops"]}]', "names examples"),
        ('{"a dog": "dog", "cat": ["kitten"]}', "got both"),
        ('{"a": "dog", "a": "cat"}', "the key 'a' is there twice"),
        ('{"a  dog": "dog", "a dog": "cat"}', "entry 2: the prompt 'a dog' is there already"),
        ('[{"name": "x", "threshold": true}]', r"\(x\): threshold must be from 0 to 1, got True"),
        ('[{"name": "x", "threshold": -0.1}]', "threshold must be from 0 to 1, got -0.1"),
        ('[{"name": "x", "threshold": "half"}]', "threshold must be from 0 to 1, got 'half'"),
        ('{"x": {"threshold": null}}', "threshold must be from 0 to 1, got None"),
        ('[{"name": "x", "background": 1}]', "background must be true or false, got 1"),
        (
            '["y", {"name": "x", "background": true, "threshold": 0.5}]',
            r"entry 2 \(x\): a background word is not written; leave out threshold",
        ),
        ('{"x": {"background": true}}', "every word is a background word"),
        ("[", "is not JSON"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "words.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_words(path)
