"""Columns of a table of predictions are told by their names; what cannot be meant is refused in a sentence."""

import numpy as np
import pytest

from mriscope.data.manifest import match_paths
from mriscope.errors import ArgumentError, DataError
from mriscope.evaluation.prediction_table import ColumnChoice, PredictionTable, PublishedPredictions


@pytest.fixture
def read(tmp_path):
    def read_text(text: str, **choice) -> PublishedPredictions:
        file = tmp_path / "table.csv"
        file.write_text(text, encoding="utf-8")
        return PredictionTable(file, ColumnChoice(**choice)).read()

    return read_text


PAIR = [[0.9, 0.1], [0.25, 0.75]]


@pytest.mark.parametrize(
    ("header", "first", "second"),
    [
        ("label,probability_AD,probability_CN", "AD,0.9,0.1", "CN,0.25,0.75"),
        ("y_true;prob_AD;prob_CN", "AD;0,9;0,1", "CN;0,25;0,75"),
        ("True Class,AD probability,CN probability", "ad,0.9,0.1", "cn,0.25,0.75"),
        ("diagnosis,AD,CN", "AD,90.0,10.0", "CN,25.0,75.0"),
        ("label,AD,CN", "AD,90%,10 %", "CN,25%,75%"),
        ("gt,mmse_score,CN_prob,AD_prob", "AD,20,0.1,0.9", "CN,30,0.75,0.25"),
        ("label,logit_AD,logit_CN", "AD,2.1972246,0", "CN,0,1.0986123"),
        ("label,AD_logit", "AD,2.1972246", "CN,-1.0986123"),
        ("label,prob_AD", "AD,0.9", "CN,0.25"),
        ("label,predicted,p_value,AD_prob,CN_prob", "AD,AD,0.01,0.9,0.1", "CN,CN,0.2,0.25,0.75"),
    ],
)
def test_columns_of_probabilities_are_told_by_their_names(read, header, first, second):
    found = read(f"{header}\n{first}\n{second}\n")
    order = [found.predictions.class_names.index(name) for name in ("AD", "CN")]
    np.testing.assert_allclose(found.predictions.probabilities[:, order], PAIR, atol=1e-6)
    assert [found.predictions.class_names[label] for label in found.predictions.labels] == ["AD", "CN"]
    assert found.has_probabilities


def test_the_studys_classes_are_known_in_any_spelling_and_stand_in_its_order(read):
    found = read("label,predicted\nvery mild demented,Non Demented\nnondemented,NonDemented\n")
    assert found.predictions.class_names == ("Non_Demented", "Very_Mild_Demented")
    assert found.predictions.predicted.tolist() == [0, 0]
    assert found.predictions.labels.tolist() == [1, 0]
    assert not found.has_probabilities


@pytest.mark.parametrize(
    ("one", "other"), [("-1", "1"), ("-1.0", "+1"), ("A+", "A-"), ("amyloid +", "amyloid -"), ("+", "-"), ("0.5", "5")]
)
def test_classes_that_differ_in_a_sign_are_two(read, one, other):
    found = read(f"label,predicted\n{one},{other}\n{other},{one}\n{one},{one}\n").predictions
    assert len(found.class_names) == 2
    assert (found.labels == found.predicted).tolist() == [False, False, True]
    scored = read(f"label,p_{one},p_{other}\n{one},0.9,0.1\n{other},0.8,0.2\n").predictions
    assert (scored.labels == scored.predicted).tolist() == [True, False]


def test_numbers_as_labels_get_their_names(read):
    found = read("label,pred\n0,0\n1.0,0\n1,1\n", classes=("AD", "CN"))
    assert found.predictions.class_names == ("AD", "CN")
    assert found.predictions.labels.tolist() == [0, 1, 1]
    assert found.predictions.predicted.tolist() == [0, 0, 1]


def test_names_of_numbers_do_not_change_the_order_of_a_source(tmp_path):
    """Its numbers are what slices and baselines have."""
    file = tmp_path / "table.csv"
    file.write_text("label,pred\n0,0\n1,0\n")
    found = PredictionTable(file, ColumnChoice(classes=("CN", "AD"))).read(["CN", "AD"], ("AD", "CN")).predictions
    assert found.class_names == ("AD", "CN")
    assert found.labels.tolist() == [1, 0]
    assert found.predicted.tolist() == [1, 1]
    with pytest.raises(DataError, match="--classes names MCI; the classes of the source are AD, CN"):
        PredictionTable(file, ColumnChoice(classes=("CN", "MCI"))).read(["CN", "AD"], ("AD", "CN"))


def test_one_column_is_of_the_class_that_is_named(read):
    text = "label,score\nAD,0.9\nCN,0.25\n"
    found = read(text, positive="CN").predictions
    assert found.probabilities[:, found.class_names.index("CN")].tolist() == pytest.approx([0.9, 0.25])
    with pytest.raises(DataError, match=r"one column of probabilities, score, .*--positive"):
        read(text)


def test_a_class_that_is_called_a_has_its_column(read):
    """prob_A is no proba, which is one column of probabilities."""
    found = read("label,prob_A,prob_B,prob_C\nA,0.5,0.3,0.2\nB,0.1,0.1,0.8\n")
    assert found.predictions.class_names == ("A", "B", "C")
    assert found.predictions.predicted.tolist() == [0, 2]
    assert read("label,proba\nA,0.9\nB,0.4\n", positive="A").predictions.predicted.tolist() == [0, 1]


def test_named_classes_choose_the_columns_among_others(read):
    found = read("label,mmse_score,AD_prob,CN_prob\n0,20,0.9,0.1\n1,30,0.3,0.7\n", classes=("AD", "CN"))
    assert found.predictions.predicted.tolist() == [0, 1]


def test_probabilities_that_float64_writes_are_read(read):
    found = read("label,p_A,p_B\nA,1.0,1.5e-105\nB,2.25e-01,7.75e-01\n").predictions
    np.testing.assert_allclose(found.probabilities, [[1, 0], [0.225, 0.775]], atol=1e-7)


def test_zeros_and_ones_are_classes_and_the_true_ones_predict_nothing(read):
    text = "label,predicted,AD,CN\nAD,CN,1,0\nCN,CN,0,1\nAD,AD,1,0\n"
    found = read(text)
    assert (found.has_probabilities, found.predictions.predicted.tolist()) == (False, [1, 1, 0])
    assert found.notes == ("the columns AD, CN hold 0 and 1 alone and are not read",)
    alone = read("label,AD,CN\nAD,1,0\nCN,0,1\nAD,0,1\n")
    assert (alone.has_probabilities, alone.predictions.predicted.tolist()) == (False, [0, 1, 1])
    with pytest.raises(DataError, match="AD, CN, which are 1 for the true class in every row"):
        read("label,AD,CN\nAD,1,0\nCN,0,1\n")
    with pytest.raises(DataError, match="neither the true classes nor those of predicted"):
        read("label,predicted,AD,CN\nAD,CN,1,0\nCN,CN,1,0\n")


def test_how_sure_a_prediction_is_is_no_probability_of_a_class(read):
    text = "label,predicted,probability\nA,A,0.9\nB,B,0.7\nA,B,0.6\n"
    found = read(text)
    assert (found.has_probabilities, found.predictions.predicted.tolist()) == (False, [0, 1, 1])
    assert found.notes[0].startswith("the column probability is not read")
    with pytest.raises(DataError, match="so it tells how sure a prediction is; leave --positive out"):
        read(text, positive="A")


def test_a_column_whose_cells_name_parts_is_the_part(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("label,predicted,Subset\nA,A,TRAIN\nB,B,dev\nA,B,Testing set\n")
    table = PredictionTable(file, ColumnChoice())
    assert table.parts() == ["train", "validation", "test"]
    assert table.notes == ("the column Subset is taken as the part",)


def test_unknown_subjects_are_no_subject(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("subject,label,predicted\n-1,A,A\nunknown,B,B\nn/a,B,B\np1,A,B\n")
    assert PredictionTable(file, ColumnChoice()).subjects() == ["", "", "", "p1"]


def test_a_column_that_is_named_has_no_other_role(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("id,label,predicted\np1,A,A\np1,A,B\np2,B,B\n")
    with pytest.raises(
        DataError, match=r"twice in its column id, .*, or, where it tells subjects, say --subject-column id"
    ):
        PredictionTable(file, ColumnChoice())
    table = PredictionTable(file, ColumnChoice(subject="id"))
    assert (table.paths, table.subjects()) == (None, ["p1", "p1", "p2"])
    with pytest.raises(ArgumentError, match=r"the column label of .* is named for two things"):
        PredictionTable(file, ColumnChoice(label="label", predicted="label"))
    with pytest.raises(DataError, match="none says what is true"):  # not the column of predictions twice
        PredictionTable(file, ColumnChoice(predicted="label", subject="id")).read()


def test_rounded_probabilities_are_brought_to_one(read):
    found = read("label,p_A,p_B,p_C\nA,0.33,0.33,0.33\nB,0.34,0.33,0.34\n").predictions
    np.testing.assert_allclose(found.probabilities, [[1 / 3] * 3, [34 / 101, 33 / 101, 34 / 101]], rtol=1e-6)
    with pytest.raises(DataError, match=r"with the sum 1\.02"):
        read("label,p_A,p_B,p_C\nA,0.33,0.33,0.33\nB,0.34,0.34,0.34\n")


def test_a_predicted_class_that_is_not_the_most_probable_is_told(read):
    found = read("label,predicted,p_A,p_B\nA,B,0.6,0.4\nB,B,0.2,0.8\n")
    assert found.predictions.predicted.tolist() == [0, 1]
    assert found.notes[0].startswith("in 1 of 2 rows the column predicted is not the most probable class")
    assert found.notes[0].endswith("by that column the accuracy of all rows is 50.0 %")


@pytest.mark.parametrize(
    ("text", "choice", "message"),
    [
        ("label,age\nA,3\nB,4\n", {}, "has the columns label, age, and none says what was predicted"),
        ("predicted\nA\nB\n", {}, "has the columns predicted, and none says what is true; expected label"),
        ("label,p_A,p_B\nA,0.6,0.6\nB,0.5,0.5\n", {}, "of row 1 of .* with the sum 1.2; .* add --logits"),
        ("label,p_A,p_B\nA,1,1\nB,0,1\n", {}, "with the sum 2"),
        ("label,p_A,p_B\nA,1.2,-0.2\nB,0.5,0.5\n", {}, "are 1.2, -0.2"),
        ("label,p_A,p_B\nA,0.5,\nB,0.5,0.5\n", {}, "p_B is '' in row 1"),
        ("label,p_A,p_B\nC,0.5,0.5\nB,0.5,0.5\n", {}, "row 1 of .* has the true class 'C', and the classes are A, B"),
        ("label,predicted\n2,0\n1,0\n", {"classes": ("A", "B")}, "the true class '2', .* with --classes"),
        ("label,predicted\n,A\nB,A\n", {}, "row 1 of .* has no true class"),
        (
            "path,label,predicted\nx,A,A\ny,B,A\nx,A,B\n",
            {},
            "names 'x' twice in its column path, in rows 1 and 3; keep one$",
        ),
        ("path,label,predicted\n,A,A\ny,B,A\n", {}, "row 1 of .* names no slice"),
        ("label,true,predicted_class\nA,A,A\n", {"label": "truth"}, "has no column 'truth' for the label"),
        ("ytrue,target,pred\nA,A,A\n", {}, "columns ytrue and target, and each may be the label; .*--label-column"),
        ("label,pred,part\nA,A,test\nB,A,holdout\n", {}, "row 2 of .* is of the part 'holdout'"),
        ("label,pred\nA,A\nA,A\n", {}, "has the classes A; expected two or more"),
        ("label,pred\n", {}, "has no rows below its header"),
        (
            "label,p_A,p_B,score_A,score_B\nA,1,0,0,1\nB,0,1,1,0\n",
            {},
            "p_A, p_B and score_A, score_B, and each set may",
        ),
        ("label,pred\n0,0.9\n1,0.2\n", {}, "pred is 0.9 in row 1 of .*; expected a class: .* --positive"),
        ("label,pred\nAD,1\nCN,0\n", {}, "predicted classes 0, 1, and none of them is true of any row .* --classes"),
        ("label,pred,is_train\nA,A,1\nB,B,0\n", {}, "a column is_train, .* column part of train, validation and test"),
        ("label,pred,set,phase\nA,A,test,train\n", {}, "columns set and phase, and each may be the part"),
        ("path,label,pred\nx/a,A,A\n.\\x\\a,B,B\n", {}, "twice in its column path, in rows 1 and 2"),
        ("label,p_A,p_B\nA,0.5,0.5\nB,0.1,0.9\n", {"logits": True}, "sum to 1 in each row, so they are no logits"),
        (
            "label,prob_0,prob_1\nAD,0.9,0.1\nCN,0.1,0.9\n",
            {},
            "class .AD., and the classes are 0, 1; .* --classes",
        ),
        ("label,score\nA,90\nB,10\n", {"positive": "A"}, "divide per cent by 100"),
        ("label,pred\nA,None\nB,B\n", {}, "row 1 of .* has no predicted class .nothing, or a word such as none"),
        ("label,p_A,prob_A,p_B\nA,0.5,0.5,0.5\nB,1,1,0\n", {"classes": ("A", "B", "C")}, "none for the class C"),
    ],
)
def test_what_cannot_be_meant_is_refused(read, text, choice, message):
    with pytest.raises(DataError, match=message):
        read(text, **choice)


@pytest.mark.parametrize(
    ("text", "choice", "message"),
    [
        ("label,pred\nA,A\nB,B\n", {"logits": True}, "--logits is of columns of scores, and .* has none"),
        ("label,pred\nA,A\nB,B\n", {"positive": "A"}, "--positive is of columns of scores, and .* has none"),
        ("label,p_A,p_B\nA,0.6,0.4\nB,0.5,0.5\n", {"positive": "A"}, "--positive .* has one for each class; leave"),
        ("label,score\nA,0.6\nB,0.5\n", {"positive": "C"}, "--positive C is none of the classes of .*, A, B; name one"),
        ("label,p_A\nA,0.6\nB,0.5\n", {"positive": "B"}, "--positive B is not the class that the column p_A"),
        ("label,pred\nA,A\nA,A\n", {"classes": ("A",)}, "--classes names 'A'; expected two names or more"),
        ("label,pred\nA,A\nA,A\n", {"classes": ("A", "a", "B")}, "--classes names 'A', 'a', 'B'; .* of its own"),
    ],
)
def test_options_that_say_nothing_of_the_table_are_refused(read, text, choice, message):
    with pytest.raises(ArgumentError, match=message):
        read(text, **choice)


def test_paths_are_found_whole_or_by_as_many_folders_as_tell_them_apart():
    source = ["AD/1.png", "CN/1.png", "CN/2.png"]
    assert match_paths(["CN/2.png", "AD/1.png"], source, "x.csv").tolist() == [2, 0]
    assert match_paths(["C:\\data\\CN\\1.png", "C:\\data\\AD\\1.png"], source, "x.csv").tolist() == [1, 0]
    assert match_paths(["2.png"], source, "x.csv").tolist() == [2]
    with pytest.raises(DataError, match=r"names '1.png', .* several of this name"):
        match_paths(["1.png"], source, "x.csv")
    assert match_paths(["2"], source, "x.csv").tolist() == [2]  # an identifier, without the ending of the file
    with pytest.raises(DataError, match=r"names '1', .* several of this name"):
        match_paths(["2", "1"], source, "x.csv")
    with pytest.raises(DataError, match=r"names 'CN/3.png'.*no slice of this name; did you mean"):
        match_paths(["CN/1.png", "CN/3.png"], source, "x.csv")
