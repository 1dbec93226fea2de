"""The fast way through a results file: ordinary files take it, and it decides as the careful way does."""

import gc
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dethead.data.coco import CocoSet
from dethead.evaluation import ResultsError, read_evaluation, read_results, result_rows
from dethead.evaluation.result_rows import read_columns

ROW = {"image_id": 42, "category_id": 8, "bbox": [10.1, 20.2, 30.3, 40.4], "score": 0.75}
BIG = 2**62  # an image id that float64 cannot tell from its neighbours

# The folder of a test is the same for all examples: each writes its file anew.
of_one_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@pytest.fixture(scope="module")
def coco_set(tmp_path_factory):
    """Images 7, 42, 2^62; cars are category 3, trucks 8."""
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 100, "width": 100} for i in (42, BIG, 7)]
    categories = [{"id": 3, "name": "car"}, {"id": 8, "name": "truck"}]
    path = tmp_path_factory.mktemp("set") / "instances.json"
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": []}))
    return CocoSet.read(path)


@pytest.fixture
def fast_only(monkeypatch):
    def refuse(*_: Any) -> None:
        raise AssertionError("the careful way was taken")

    monkeypatch.setattr(result_rows, "checked_rows", refuse)


def written(tmp_path, rows):
    path = tmp_path / "results.json"
    text = rows if isinstance(rows, str | bytes) else json.dumps(rows)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def assert_same(one, other):
    for name, values, others in zip(one._fields, one, other, strict=True):
        np.testing.assert_array_equal(values, others, err_msg=name)
        assert values.dtype == others.dtype, name


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([ROW, ROW]),
        json.dumps([ROW, ROW], indent=2),
        json.dumps([ROW, ROW], separators=(",", ":")),
        b"\xef\xbb\xbf" + json.dumps([ROW, ROW]).encode(),
        "[]",
        " [ ] \n",
        json.dumps([ROW | {"bbox": [1, 2, 3, 4], "score": 1}]),
        json.dumps([ROW | {"confidence": 0.5, "class_probability": 1}]),
        json.dumps([ROW | {"id": 1, "segmentation": {"counts": "a}, {b", "size": [1, 2]}}]),
        json.dumps([ROW | {"note": "straße"}], ensure_ascii=False),
        json.dumps([ROW | {"image_id": BIG}]),
        json.dumps([ROW]).replace("score", "\\u0073core"),
    ],
)
def test_ordinary_files_go_the_fast_way(tmp_path, coco_set, fast_only, text):
    assert len(read_columns(written(tmp_path, text), coco_set).label) in (0, 1, 2)


def test_rows_stay_in_order_over_many_pieces(tmp_path, coco_set, fast_only, monkeypatch):
    monkeypatch.setattr(result_rows, "_PIECE", 64)
    rows = [ROW | {"score": i / 100, "image_id": (7, 42, BIG)[i % 3]} for i in range(100)]
    columns = read_columns(written(tmp_path, rows), coco_set)
    assert columns.scores.tolist() == [row["score"] for row in rows]
    assert columns.image.tolist() == [i % 3 for i in range(100)]


@pytest.mark.parametrize("piece", [1, 7, 100, 2**18])
def test_a_cut_inside_a_string_or_a_row_loses_nothing(tmp_path, coco_set, monkeypatch, piece):
    monkeypatch.setattr(result_rows, "_PIECE", piece)
    rows = [
        ROW | {"note": 'a"}, {"b'},
        ROW | {"parts": [{"score": 9}, {"score": 8}], "score": 0.25},
        ROW | {"note": "}]},[{", "score": 0.5},
    ]
    columns = read_columns(written(tmp_path, rows), coco_set)
    assert columns.scores.tolist() == [0.75, 0.25, 0.5]


@pytest.mark.parametrize("between", ["\v", "\f", "\u00a0", "\0", ",", "]["])
def test_what_json_does_not_allow_between_rows_is_refused(tmp_path, coco_set, monkeypatch, between):
    monkeypatch.setattr(result_rows, "_PIECE", 100)
    rows = ", ".join([json.dumps(ROW)] * 4)
    text = f"[{rows},{between}{rows}]"
    with pytest.raises(ResultsError, match=r"results.json: line 1, column \d+: not JSON"):
        read_columns(written(tmp_path, text), coco_set)


@pytest.mark.parametrize("text", ["", "[", "[{", "[" + json.dumps(ROW), json.dumps([ROW])[:-1] + ",]"])
def test_a_file_cut_off_is_placed_by_line_and_column(tmp_path, coco_set, text):
    with pytest.raises(ResultsError, match=r"line 1, column \d+: not JSON"):
        read_columns(written(tmp_path, text), coco_set)


def test_bytes_that_are_not_utf_8_are_refused_even_where_nobody_reads_them(tmp_path, coco_set):
    text = json.dumps([ROW | {"note": "?"}]).encode().replace(b"?", b"\xff")
    with pytest.raises(ResultsError, match=f"is not UTF-8 text at byte {text.index(0xFF)}"):
        read_columns(written(tmp_path, text), coco_set)


def test_the_number_of_a_faulty_row_counts_the_rows_of_all_pieces(tmp_path, coco_set, monkeypatch):
    monkeypatch.setattr(result_rows, "_PIECE", 64)
    rows = [ROW] * 50 + [ROW | {"score": None}]
    with pytest.raises(ResultsError, match="row 50: score must be a finite number, is None"):
        read_columns(written(tmp_path, rows), coco_set)


def test_of_a_key_given_twice_the_last_counts(tmp_path, coco_set):
    text = json.dumps([ROW]).replace('"score": 0.75', '"score": "none", "score": 0.25')
    assert read_columns(written(tmp_path, text), coco_set).scores.tolist() == [0.25]


def test_ids_may_be_whole_floats(tmp_path, coco_set):
    columns = read_columns(written(tmp_path, [ROW | {"image_id": 42.0, "category_id": 3.0}]), coco_set)
    assert (columns.image.tolist(), columns.label.tolist()) == ([1], [0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 42.5}, "image_id 42.5 is not in the annotations"),
        ({"image_id": 2**64 + 42}, "image_id 18446744073709551658 is not in"),
        ({"image_id": BIG + 1}, "image_id 4611686018427387905 is not in"),
        ({"image_id": None}, "image_id None is not in"),
        ({"confidence": float("nan")}, "confidence must be a finite number, is nan"),
        ({"class_probability": float("-inf")}, "class_probability must be a finite number, is -inf"),
        ({"bbox": [1, 2, 3, 4, 5]}, r"bbox must be 4 finite .*, is \[1, 2, 3, 4, 5\]"),
        ({"bbox": [1, 2, 3, True]}, "bbox must be 4 finite .*True"),
        ({"bbox": [1, 2, 3, 10**30]}, "bbox must be 4 finite .*10000"),
    ],
)
def test_a_fault_among_good_rows_is_named(tmp_path, coco_set, change, message):
    # One good row more than there are faults: a column of mixed values must not pass for one of numbers.
    with pytest.raises(ResultsError, match=f"row 1: {message}"):
        read_columns(written(tmp_path, [ROW, ROW | change, ROW]), coco_set)


def test_read_evaluation_says_none_where_no_row_knows_the_branches(tmp_path, coco_set):
    found = read_evaluation(written(tmp_path, [ROW, ROW | {"confidence": 0.5}]), coco_set).detections
    assert found.class_probabilities is None
    np.testing.assert_array_equal(found.confidence, [np.nan, 0.5])


def test_the_garbage_collector_is_on_again_after_a_fault(tmp_path, coco_set):
    assert gc.isenabled()
    with pytest.raises(ResultsError):
        read_results(written(tmp_path, "[7]"), coco_set)
    assert gc.isenabled()


NUMBERS = st.floats(-1e6, 1e6) | st.integers(-(10**6), 10**6)
SIZES = st.floats(0, 1e6) | st.integers(0, 10**18)
GOOD_ROWS = st.fixed_dictionaries(
    {
        "image_id": st.sampled_from([7, 42, BIG, 42.0]),
        "category_id": st.sampled_from([3, 8]),
        "bbox": st.tuples(NUMBERS, NUMBERS, SIZES, SIZES),
        "score": NUMBERS,
    },
    optional={
        "confidence": NUMBERS,
        "class_probability": NUMBERS,
        "note": st.text(max_size=5) | st.just("}, {"),
    },
)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from([7, 42, 3, 8, 42.0]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from([*ROW]), inner, max_size=3),
    max_leaves=6,
)
BAD_ROWS = ANYTHING | st.builds(
    lambda row, key, value: row | {key: value},
    GOOD_ROWS,
    st.sampled_from([*ROW, "confidence"]),
    ANYTHING,
)


@of_one_file
@given(rows=st.lists(GOOD_ROWS, max_size=6), piece=st.integers(1, 400))
def test_good_rows_are_read_bit_for_bit_as_python_reads_them(tmp_path, coco_set, rows, piece):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(result_rows, "_PIECE", piece)
        columns = read_columns(written(tmp_path, rows), coco_set)
    numbers = [[*map(float, row["bbox"]), float(row["score"])] for row in rows]
    wanted = np.array(numbers, dtype=np.float64).reshape(-1, 5)
    np.testing.assert_array_equal(columns.boxes, wanted[:, :4])
    np.testing.assert_array_equal(columns.scores, wanted[:, 4])
    assert columns.image.tolist() == [{7: 0, 42: 1, BIG: 2}[row["image_id"]] for row in rows]
    assert columns.label.tolist() == [{3: 0, 8: 1}[row["category_id"]] for row in rows]
    for name, key in {"class_probabilities": "class_probability", "confidence": "confidence"}.items():
        np.testing.assert_array_equal(getattr(columns, name), [row.get(key, np.nan) for row in rows])


def verdict(path, coco_set):
    try:
        return read_columns(path, coco_set)
    except ResultsError as error:
        return str(error)


@of_one_file
@given(rows=st.lists(GOOD_ROWS | BAD_ROWS, min_size=1, max_size=4), piece=st.integers(1, 400))
def test_the_fast_way_never_decides_otherwise_than_the_careful_way(tmp_path, coco_set, rows, piece):
    path = written(tmp_path, rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(result_rows, "_PIECE", piece)
        both = verdict(path, coco_set)
        patch.setattr(result_rows, "_decoded", lambda *_: None)
        careful = verdict(path, coco_set)
    if isinstance(both, str) or isinstance(careful, str):
        assert both == careful
    else:
        assert_same(both, careful)
