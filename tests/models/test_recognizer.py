"""The torch recogniser against dlib's own implementation, which it must equal, and its gradients."""

import cv2
import numpy as np
import pytest
import torch

from magicmirror.errors import ConfigError, WeightsError
from magicmirror.faces import alignment, dlib_analyzer
from magicmirror.faces.alignment import align_head, head_transform, transform_points
from magicmirror.faces.dlib_analyzer import face_chip
from magicmirror.media import load_image
from magicmirror.models import recognizer
from magicmirror.models.dlib_weights import DlibStream, package_file, read_layers
from magicmirror.models.recognizer import DlibFaceRecognizer, chips_from_template, template_landmarks


@pytest.fixture(scope="module")
def model():
    return DlibFaceRecognizer.from_dlib_package()


@pytest.fixture(scope="module")
def faces(examples, face_analyzer):
    """Photo and analysed face of four example people."""
    paths = sorted(examples.glob("*_1.jpg"))[:4]
    assert len(paths) == 4
    photos = [load_image(path) for path in paths]
    return [(photo, face_analyzer.analyze(photo)[0]) for photo in photos]


@pytest.fixture(scope="module")
def dlib_network():
    import dlib

    return dlib.face_recognition_model_v1(str(package_file()))


def to_tensor(pictures):
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def test_equals_dlib_on_faces(model, dlib_network, faces):
    chips = [face_chip(photo, face.landmarks) for photo, face in faces]
    expected = np.array(dlib_network.compute_face_descriptor(chips))
    np.testing.assert_allclose(model(to_tensor(chips)).numpy(), expected, atol=1e-5)


def test_equals_dlib_on_noise_and_flat_pictures(model, dlib_network):
    noise = np.random.default_rng(0).integers(0, 256, (2, 150, 150, 3), dtype=np.uint8)
    chips = [*noise, np.zeros_like(noise[0]), np.full_like(noise[0], 255)]
    expected = np.array(dlib_network.compute_face_descriptor(chips))
    np.testing.assert_allclose(model(to_tensor(chips)).numpy(), expected, atol=1e-5)


def test_bfloat16_stays_close(model, faces):
    chips = to_tensor([face_chip(photo, face.landmarks) for photo, face in faces])
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(chips).float()
    assert (rounded - model(chips)).norm(dim=1).max() < 0.05


def test_gradient_steps_on_pixels_approach_another_person(model, faces):
    (photo, face), (_, other) = faces[:2]
    chip = to_tensor([face_chip(photo, face.landmarks)])
    target = torch.from_numpy(other.embedding)
    pixels = chip.clone().requires_grad_()
    distances = []
    for _ in range(6):
        distance = (model(pixels) - target).norm()
        (gradient,) = torch.autograd.grad(distance, pixels)
        distances.append(float(distance.detach()))
        pixels = (pixels - 0.004 * gradient.sign()).clamp(0, 1).detach().requires_grad_()
    assert distances[-1] < 0.5 * distances[0]
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())


def test_gradient_equals_finite_difference_through_the_crop(faces):
    model = DlibFaceRecognizer.from_dlib_package().double()
    photo, face = faces[0]
    head = to_tensor([align_head(photo, face.landmarks, "dlib5", 128)]).double().requires_grad_()
    direction = torch.randn(head.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = torch.linspace(-1, 1, 128, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((model.embed_aligned(head) * weights).sum(), head)
    step = 1e-8 * direction
    with torch.no_grad():
        change = (model.embed_aligned(head + step) - model.embed_aligned(head - step)) @ weights / 2e-8
    assert float((gradient * direction).sum()) == pytest.approx(float(change), rel=1e-3)


def test_template_constants_are_those_of_the_faces_room():
    assert recognizer.EYE_DISTANCE == alignment.EYE_DISTANCE
    assert recognizer.EYES_CENTRE == (alignment.EYES_X, alignment.EYES_Y)
    assert recognizer.CHIP_SIZE_PX == dlib_analyzer.CHIP_SIZE_PX
    assert recognizer.CHIP_PADDING == dlib_analyzer.CHIP_PADDING
    np.testing.assert_array_equal(np.array(recognizer.MEAN_FACE), dlib_analyzer.MEAN_FACE)
    landmarks = dlib_analyzer.template_landmarks_px(128)
    np.testing.assert_allclose(template_landmarks(128).numpy(), landmarks, atol=1e-3)


@pytest.mark.parametrize("side", [128, 200])
def test_chips_equal_dlibs_chips(faces, side):
    """dlib rounds a chip down to whole grey levels: half a level on average."""
    for photo, face in faces:
        head = align_head(photo, face.landmarks, "dlib5", side)
        landmarks = transform_points(head_transform(face.landmarks, "dlib5", side), face.landmarks)
        chip = chips_from_template(to_tensor([head]), landmarks=torch.from_numpy(landmarks[None]))
        grey_levels = chip[0].permute(1, 2, 0).numpy() * 255 - face_chip(head, landmarks)
        assert np.abs(grey_levels - 0.5).mean() < 0.5


def test_chips_of_a_turned_head_are_upright(model, faces):
    photo, face = faces[0]
    matrix = cv2.getRotationMatrix2D((64, 64), 25, 0.9).astype(np.float32)
    head = align_head(photo, face.landmarks, "dlib5", 128)
    landmarks = transform_points(head_transform(face.landmarks, "dlib5", 128), face.landmarks)
    turned = cv2.warpAffine(head, matrix, (128, 128), borderMode=cv2.BORDER_REFLECT_101)
    moved = torch.from_numpy(transform_points(matrix, landmarks)[None])
    upright = model.embed_aligned(to_tensor([head]), torch.from_numpy(landmarks[None]))
    assert (model.embed_aligned(to_tensor([turned]), moved) - upright).norm() < 0.2
    assert (model.embed_aligned(to_tensor([turned])) - upright).norm() > 0.3


def test_embedding_of_a_head_is_that_of_the_photo(model, face_analyzer, faces):
    """Without landmarks the nose is a guess, so the embedding moves a little, far less than between people."""
    for side, limit in ((128, 0.3), (480, 0.3)):
        heads = [align_head(photo, face.landmarks, "dlib5", side) for photo, face in faces]
        embeddings = model.embed_aligned(to_tensor(heads)).numpy()
        for embedding, (_, face) in zip(embeddings, faces, strict=True):
            assert np.linalg.norm(embedding - face.embedding) < limit
        if side == 128:
            np.testing.assert_allclose(embeddings, face_analyzer.embed_aligned(np.stack(heads)), atol=0.01)


def test_wrong_shapes_are_refused(model):
    with pytest.raises(ConfigError, match="150"):
        model(torch.zeros(1, 3, 128, 128))
    with pytest.raises(ConfigError, match="Aligned heads"):
        chips_from_template(torch.zeros(1, 3, 128, 120))
    with pytest.raises(ConfigError, match="Landmarks"):
        chips_from_template(torch.zeros(2, 3, 128, 128), landmarks=torch.zeros(1, 5, 2))


@pytest.mark.parametrize(
    ("data", "value"),
    [("0100", 0), ("0105", 5), ("021001", 272), ("8104", -4), ("820001", -256)],
)
def test_integers_of_the_stream(data, value):
    assert DlibStream(bytes.fromhex(data)).integer() == value


def test_float_of_the_stream():
    assert DlibStream(bytes.fromhex("01038102")).real() == 0.75


def test_damaged_file_is_refused(tmp_path):
    data = package_file().read_bytes()
    for name, content in {
        "short": data[:-1000],
        "bent": data[:20000].replace(b"affine_", b"affina_"),
        "other": b"\xffhi",
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="Reinstall"):
            read_layers(path)
    with pytest.raises(WeightsError, match="does not exist"):
        read_layers(tmp_path / "none.dat")
