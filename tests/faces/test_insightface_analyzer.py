"""The second analyzer: the real insightface on a small pack, against values computed by hand."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from insightface.app import FaceAnalysis
from insightface.utils import face_align

from magicmirror.errors import ConfigError, WeightsError
from magicmirror.faces.alignment import align_head, eye_centres, eye_distance_px, template_eyes_px
from magicmirror.faces.analyzer import create_face_analyzer, photo_sha256
from magicmirror.faces.description import is_same_face
from magicmirror.faces.insightface_analyzer import MEAN_FACE, InsightFaceAnalyzer, template_landmarks_px
from magicmirror.faces.insightface_models import CPU, CUDA, choose_providers
from magicmirror.faces.insightface_packs import onnx_folder, pack_root
from magicmirror.media import load_image
from tests.faces.insightface_pack import (
    MARKER_SCORE,
    embedding_by_hand,
    expected_box,
    expected_points,
    marker_picture,
    write_pack,
)

# pytest sets aside the filter by which the analyzer keeps this quiet; that it does is tested in a process of its own.
pytestmark = pytest.mark.filterwarnings("ignore:`estimate` is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """insightface's root folder with the small pack as ``buffalo_l``."""
    root = tmp_path_factory.mktemp("insightface")
    write_pack(root / "models" / "buffalo_l")
    return root


@pytest.fixture(scope="module")
def analyzer(packs) -> InsightFaceAnalyzer:
    """One analyzer for all tests of the file."""
    return InsightFaceAnalyzer(root=packs)


@pytest.fixture
def scene() -> np.ndarray:
    """A colourful (640, 640, 3) picture of two faces, large and small; unlike in all channels."""
    noise = np.random.default_rng(3).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    picture = cv2.resize(noise, (640, 640), interpolation=cv2.INTER_LINEAR)
    for left, top, side in LARGE, SMALL:
        picture[top - 16 : top + side + 16, left - side : left + 2 * side] //= 4
        picture[top : top + side, left : left + side] = marker_picture(side, side, (0, 0, side))
    return picture


LARGE, SMALL = (320, 96, 32), (64, 384, 16)


def box_of(face) -> tuple[float, float, float, float]:
    return (face.box.left, face.box.top, face.box.right, face.box.bottom)


@pytest.mark.parametrize("marker", [(320, 96, 32), (0, 0, 32), (64, 192, 16), (480, 488, 8)])
def test_box_landmarks_and_score_are_the_detectors(marker, analyzer) -> None:
    (face,) = analyzer.analyze(marker_picture(640, 640, marker))
    assert box_of(face) == pytest.approx(expected_box(*marker), abs=1e-3)
    np.testing.assert_allclose(face.landmarks, expected_points(*marker), atol=1e-3)
    assert face.score == pytest.approx(MARKER_SCORE, abs=1e-5)
    assert face.landmark_scheme == "arcface5"
    assert face.landmarks.dtype == face.embedding.dtype == np.float32


def test_all_faces_largest_first_and_none_where_there_is_none(analyzer) -> None:
    markers = [(64, 192, 16), (480, 480, 8), (320, 96, 32)]
    picture = marker_picture(640, 640, *markers)
    faces = analyzer.analyze(picture)
    assert [round(face.box.width) for face in faces] == [64, 32, 16]
    assert {face.photo_sha256 for face in faces} == {photo_sha256(picture)}
    assert analyzer.analyze(marker_picture(640, 640)) == ()


def test_embedding_by_hand_from_the_crop_in_rgb(analyzer, scene) -> None:
    large, small = analyzer.analyze(scene)
    for face, marker in ((large, LARGE), (small, SMALL)):
        crop = face_align.norm_crop(scene, expected_points(*marker).astype(np.float32))
        np.testing.assert_allclose(face.embedding, embedding_by_hand(crop), atol=2e-3)
        swapped = embedding_by_hand(crop[..., ::-1])
        assert np.abs(face.embedding - swapped).max() > 1.0
        assert np.linalg.norm(face.embedding) > 5.0  # raw, not normalised


def test_equals_insightface_called_by_hand(analyzer, packs, scene) -> None:
    plain = FaceAnalysis(name=str(packs / "models" / "buffalo_l"), allowed_modules=["detection", "recognition"])
    plain.prepare(ctx_id=0, det_size=(640, 640))
    expected = sorted(plain.get(np.ascontiguousarray(scene[..., ::-1])), key=lambda face: -face.bbox[2] + face.bbox[0])
    faces = analyzer.analyze(scene)
    assert len(faces) == len(expected) == 2
    for face, by_hand in zip(faces, expected, strict=True):
        np.testing.assert_array_equal(np.float32(box_of(face)), by_hand.bbox)
        np.testing.assert_array_equal(face.landmarks, by_hand.kps)
        np.testing.assert_array_equal(face.embedding, by_hand.embedding)
        np.testing.assert_allclose(face.normalized_embedding, by_hand.normed_embedding, atol=1e-7)


def test_one_face_is_embedded_as_analyze_does(analyzer, scene) -> None:
    for face in analyzer.analyze(scene):
        embedding = analyzer.embed(scene, face.landmarks)
        np.testing.assert_array_equal(embedding, face.embedding)
        assert embedding.shape == (512,)
        np.testing.assert_array_equal(face.crop, align_head(scene, face.landmarks, "arcface5", 224))
    largest, missing = analyzer.embed_frames(iter([scene, np.zeros((64, 64, 3), np.uint8)]))
    np.testing.assert_array_equal(largest, analyzer.analyze(scene, thorough=False)[0].embedding)
    assert missing is None


@pytest.mark.parametrize(
    ("height", "width", "marker"),
    [
        (128, 128, (64, 32, 32)),  # a frame of the preview: the look at 128 px sees it as it is
        (128, 128, (32, 64, 16)),
        (320, 320, (160, 32, 16)),  # enlarged twice
        (480, 720, (216, 144, 36)),  # reduced: 32 px at 640
        (640, 640, (160, 160, 160)),  # a face that fills the picture: unseen at 640 px, found at 128 px
        (2000, 1000, (300, 900, 100)),
    ],
)
def test_faces_in_pictures_of_any_size(height, width, marker, analyzer) -> None:
    (face,) = analyzer.analyze(marker_picture(height, width, marker), thorough=False)
    assert box_of(face) == pytest.approx(expected_box(*marker), abs=0.02 * max(height, width))
    np.testing.assert_allclose(face.landmarks, expected_points(*marker), atol=0.02 * max(height, width))


def test_a_face_that_both_looks_see_is_one_and_the_finer_counts(analyzer) -> None:
    analyzer.analyze(marker_picture(64, 64))  # loads it
    # 36 px: one cell of 32 px at 640 px, and at 128 px one of 8 px, which is 40 px of the picture.
    picture = marker_picture(640, 640, (320, 320, 36))
    boxes, _ = analyzer._analysis.det_model.detect(np.ascontiguousarray(picture[..., ::-1]), input_size=(128, 128))
    assert tuple(boxes[0, :4]) == pytest.approx(expected_box(320, 320, 40), abs=1e-3)
    (face,) = analyzer.analyze(picture)
    assert box_of(face) == pytest.approx(expected_box(320, 320, 32), abs=1e-3)


def test_a_tiny_face_is_found_in_the_thorough_search_only(analyzer) -> None:
    picture = marker_picture(1280, 1280, (640, 320, 8))
    assert analyzer.analyze(picture, thorough=False) == ()
    (face,) = analyzer.analyze(picture)
    assert box_of(face) == pytest.approx(expected_box(640, 320, 8), abs=1e-3)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_photo_gives_the_same_face(quarters, analyzer, scene) -> None:
    upright = analyzer.analyze(scene)
    turned_scene = np.rot90(scene, quarters)
    assert analyzer.analyze(turned_scene, thorough=False) == ()
    faces = analyzer.analyze(turned_scene)
    assert len(faces) == 2
    for face, original in zip(faces, upright, strict=True):
        x, y = original.landmarks.T
        points = {1: (y, 639 - x), 2: (639 - x, 639 - y), 3: (639 - y, x)}[quarters]
        np.testing.assert_allclose(face.landmarks, np.stack(points, axis=1), atol=1e-3)
        assert face.box.area == pytest.approx(original.box.area, rel=1e-4)
        np.testing.assert_allclose(face.embedding, original.embedding, atol=0.05)
        assert np.abs(face.crop.astype(int) - original.crop).mean() < 1.0  # the crop is upright


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 900, 3), (5000, 3, 3), (2, 40, 3)])
def test_strips_and_dots_have_no_face(shape, analyzer) -> None:
    assert analyzer.analyze(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)) == ()


def test_a_detector_of_one_size_is_used_once_at_that_size(tmp_path) -> None:
    write_pack(tmp_path / "models" / "buffalo_l", fixed_input=320)
    analyzer = InsightFaceAnalyzer(root=tmp_path)
    (face,) = analyzer.analyze(marker_picture(640, 640, (320, 192, 64)))
    assert box_of(face) == pytest.approx(expected_box(320, 192, 64), abs=1.0)
    assert analyzer.analyze(marker_picture(1280, 1280, (640, 320, 8))) == ()
    asked = []
    detect = analyzer._analysis.det_model.detect
    analyzer._analysis.det_model.detect = lambda *args, **options: asked.append(options) or detect(*args, **options)
    analyzer.analyze(marker_picture(640, 640), thorough=False)
    assert len(asked) == 1


def test_mean_face_is_insightfaces_in_the_stated_order() -> None:
    np.testing.assert_array_equal(MEAN_FACE, face_align.arcface_dst)
    first, second, nose, mouth_first, mouth_second = MEAN_FACE
    assert first[0] < nose[0] < second[0] and mouth_first[0] < nose[0] < mouth_second[0]
    assert max(first[1], second[1]) < nose[1] < min(mouth_first[1], mouth_second[1])


def test_template_landmarks_have_the_eyes_on_the_template() -> None:
    points = template_landmarks_px(224)
    np.testing.assert_allclose(points[:2], np.stack(template_eyes_px(224)), atol=1e-3)
    mouth_below_eyes = points[3:, 1].mean() - points[:2, 1].mean()
    # In ArcFace's picture the mouth lies 40.69 px below eyes that are 35.24 px apart; ours are 0.27 of the side apart.
    assert mouth_below_eyes == pytest.approx(40.686 / 35.238 * 0.27 * 224, rel=1e-3)


@pytest.mark.parametrize("side", [128, 224, 512])
def test_aligned_crops_are_embedded_as_the_photo_is(side, analyzer) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    photo = cv2.resize(noise, (900, 900), interpolation=cv2.INTER_CUBIC)
    turn = np.array([[0.94, -0.34], [0.34, 0.94]]) * 4.0  # the mean face, about 20 degrees turned and 4 times as large
    landmarks = (MEAN_FACE @ turn.T + (300, 100)).astype(np.float32)
    crop = align_head(photo, landmarks, "arcface5", side)
    from_photo = analyzer.embed(photo, landmarks)
    (from_crop,) = analyzer.embed_aligned(crop[None])
    assert np.linalg.norm(from_crop - from_photo) < 0.03 * np.linalg.norm(from_photo)


def test_aligned_crops_come_in_batches_and_none_at_all(analyzer) -> None:
    crops = np.random.default_rng(1).integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    together = analyzer.embed_aligned(crops)
    assert together.shape == (3, 512) and together.dtype == np.float32
    for crop, embedding in zip(crops, together, strict=True):
        by_hand = embedding_by_hand(face_align.norm_crop(crop, template_landmarks_px(96)))
        np.testing.assert_allclose(embedding, by_hand, atol=2e-3)
    assert analyzer.embed_aligned(np.zeros((0, 128, 128, 3), np.uint8)).shape == (0, 512)
    for wrong in (crops[0], crops[:, :, :50], crops.astype(np.float32)):
        with pytest.raises(ConfigError, match=r"\(B, S, S, 3\)"):
            analyzer.embed_aligned(wrong)


def test_eight_threads_share_one_analyzer_that_loads_once(packs, scene, caplog) -> None:
    shared = InsightFaceAnalyzer(root=packs)
    pictures = [np.roll(scene, 32 * shift, axis=1) for shift in range(4)] * 4
    with caplog.at_level(logging.INFO, logger="magicmirror"), ThreadPoolExecutor(8) as pool:
        together = list(pool.map(shared.analyze, pictures))
    assert [record.message for record in caplog.records if "loaded" in record.message] == [
        f'Face models "buffalo_l" loaded from {packs / "models" / "buffalo_l"}. '
        "insightface's model packs may be used for non-commercial research only."
    ]
    for picture, faces in zip(pictures, together, strict=True):
        alone = shared.analyze(picture)
        assert len(faces) == len(alone) >= 1
        for face, other in zip(faces, alone, strict=True):
            np.testing.assert_array_equal(face.landmarks, other.landmarks)
            np.testing.assert_allclose(face.embedding, other.embedding, atol=1e-5)


def test_only_detector_and_recogniser_are_kept(analyzer) -> None:
    analyzer.analyze(marker_picture(64, 64))
    assert set(analyzer._analysis.models) == {"detection", "recognition"}


def test_nothing_is_printed_and_nothing_is_loaded_before_use(packs, repository) -> None:
    code = (
        "import json, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from magicmirror.faces.analyzer import create_face_analyzer\n"
        "from tests.faces.insightface_pack import marker_picture\n"
        "import onnx\n"
        f"analyzer = create_face_analyzer('insightface', root=Path({str(packs)!r}))\n"
        "early = [name for name in ('insightface', 'onnxruntime', 'cv2') if name in sys.modules]\n"
        "faces = analyzer.analyze(marker_picture(320, 320, (160, 32, 16)))\n"
        "print(json.dumps({'early': early, 'faces': len(faces)}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"early": [], "faces": 1}
    assert done.stderr == ""


def test_no_warning_reaches_the_caller(packs) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (face,) = InsightFaceAnalyzer(root=packs).analyze(marker_picture(320, 320, (160, 32, 16)))
    assert face.embedding.shape == (512,)


def test_the_factory_passes_options_on(packs) -> None:
    made = create_face_analyzer("insightface", crop_size_px=96, pack="antelopev2", root=packs, device="cpu")
    assert isinstance(made, InsightFaceAnalyzer)
    assert (made.crop_size_px, made.pack, made.root, made.device) == (96, "antelopev2", packs, "cpu")
    assert (made.embedding_size, made.landmark_scheme) == (512, "arcface5")


def test_arguments_out_of_range_are_refused(packs) -> None:
    with pytest.raises(ConfigError, match="crop_size_px"):
        InsightFaceAnalyzer(crop_size_px=8)
    with pytest.raises(ConfigError, match="tpu"):
        InsightFaceAnalyzer(root=packs, device="tpu").analyze(marker_picture(64, 64))


@pytest.mark.parametrize(
    ("device", "available", "expected"),
    [
        ("auto", [CPU], [(CPU, {})]),
        ("auto", [CUDA, CPU], [(CUDA, {"device_id": "0"}), (CPU, {})]),
        ("cpu", [CUDA, CPU], [(CPU, {})]),
        ("cuda", ["TensorrtExecutionProvider", CUDA, CPU], [(CUDA, {"device_id": "0"}), (CPU, {})]),
        ("cuda:3", [CUDA, CPU], [(CUDA, {"device_id": "3"}), (CPU, {})]),
    ],
)
def test_providers_follow_the_device(device, available, expected) -> None:
    assert choose_providers(device, available) == expected


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_without_its_provider_says_what_to_install_and_what_never(device) -> None:
    with pytest.raises(ConfigError, match=device) as caught:
        choose_providers(device, [CPU, "AzureExecutionProvider"])
    assert "onnxruntime-gpu" in caught.value.remedy and "Never install both" in caught.value.remedy


@pytest.mark.parametrize("device", ["cuda:", "cuda:x", "CUDA", "mps", ""])
def test_unknown_devices_are_refused(device) -> None:
    with pytest.raises(ConfigError, match="device"):
        choose_providers(device, [CUDA, CPU])


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"recogniser_size": 128}, "128 numbers instead of 512"), ({"landmarks": False}, "no landmarks")],
)
def test_packs_of_another_kind_are_refused(options, reason, tmp_path) -> None:
    write_pack(tmp_path / "models" / "other", **options)
    with pytest.raises(WeightsError, match=reason):
        InsightFaceAnalyzer(pack="other", root=tmp_path).analyze(marker_picture(64, 64))


@pytest.mark.parametrize(("file", "reason"), [("w600k_r50", "no recognition model"), ("det_10g", "cannot be loaded")])
def test_a_pack_of_an_unknown_name_needs_both_models(file, reason, tmp_path) -> None:
    folder = write_pack(tmp_path / "models" / "other")
    (folder / f"{file}.onnx").unlink()
    with pytest.raises(WeightsError, match=reason) as caught:
        InsightFaceAnalyzer(pack="other", root=tmp_path).analyze(marker_picture(64, 64))
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("file", "damage"), [("det_10g.onnx", "half"), ("w600k_r50.onnx", "text"), ("genderage.onnx", "empty")]
)
def test_a_damaged_model_is_named_and_mendable(file, damage, tmp_path, capfd) -> None:
    path = write_pack(tmp_path / "models" / "buffalo_l") / file
    whole = path.read_bytes()
    path.write_bytes({"half": whole[: len(whole) // 2], "empty": b"", "text": b"<html>Not found</html>"}[damage])
    analyzer = InsightFaceAnalyzer(root=tmp_path)
    with pytest.raises(WeightsError) as caught:
        analyzer.analyze(marker_picture(64, 64))
    assert str(path) in caught.value.message
    assert f'Delete the folder "{path.parent}"' in caught.value.remedy
    assert "buffalo_l.zip" in caught.value.remedy and "det_10g.onnx and w600k_r50.onnx" in caught.value.remedy
    assert capfd.readouterr() == ("", "")
    path.write_bytes(whole)
    assert len(analyzer.analyze(marker_picture(320, 320, (160, 32, 16)))) == 1


@pytest.mark.weights
@pytest.mark.parametrize("pack", ["buffalo_l", "antelopev2"])
def test_real_packs_agree_with_dlib(pack, examples, face_analyzer, example_references) -> None:
    """Eye centres within 15 % of their distance, boxes of one face; people told apart by a cosine of 0.3."""
    if onnx_folder(pack_root() / "models" / pack) is None:
        pytest.skip(f"no pack {pack} in {pack_root()}")
    real = InsightFaceAnalyzer(pack=pack)
    embeddings = []
    for name, reference in example_references.items():
        photo = load_image(examples / f"{name}.jpg")
        face = real.analyze(photo)[0]
        tolerance = 0.15 * eye_distance_px(reference.landmarks, "dlib5")
        for eye, other in zip(
            eye_centres(face.landmarks, "arcface5"), eye_centres(reference.landmarks, "dlib5"), strict=True
        ):
            assert np.linalg.norm(eye - other) < tolerance, name
        assert is_same_face(face.box, reference.box), name
        (aligned,) = real.embed_aligned(face.crop[None])
        assert aligned @ face.embedding > 0.8 * np.linalg.norm(aligned) * np.linalg.norm(face.embedding), name
        embeddings.append(face.normalized_embedding)
    cosines = np.stack(embeddings) @ np.stack(embeddings).T
    assert cosines[~np.eye(len(cosines), dtype=bool)].max() < 0.3
    both = real.analyze(load_image(examples / "two_people.jpg"))
    assert len(both) == len(face_analyzer.analyze(load_image(examples / "two_people.jpg"))) == 2
