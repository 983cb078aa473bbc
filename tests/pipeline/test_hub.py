"""Weights from a hub: downloaded once, and every way in which that fails ends in one message and a usable cache."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from huggingface_hub import constants
from transformers import T5Config, T5EncoderModel

from magicmirror.errors import WeightsError
from magicmirror.pipeline import hub as own_hub
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from tests.tiny_hub import TinyHub, use_hub
from tests.tiny_pipeline import build_pipeline
from tests.tiny_published import TINY, publish, same_weights

WIDER = replace(TINY, identity_fusion={**TINY.identity_fusion, "hidden_dim": 28})
MORE = replace(TINY, transformer={**TINY.transformer, "num_face_tokens": 5})
SHARD = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A root with the repositories me/base, me/photomaker and me/adapter, and the pipeline whose parts these are."""
    root = tmp_path_factory.mktemp("hub")
    pipeline = build_pipeline()
    publish(root / "me", pipeline)
    (root / "me/base/README.md").write_text("Nobody needs this.")
    (root / "me/base/transformer/diffusion_pytorch_model.fp16.safetensors").write_bytes(b"nor this")
    return root, pipeline


@pytest.fixture
def hub(parts, tmp_path, monkeypatch):
    """The hub, with a cache of its own and no patience."""
    root = shutil.copytree(parts[0], tmp_path / "hub")
    hub = TinyHub(root)
    use_hub(hub, monkeypatch, tmp_path / "home/hub")
    yield hub
    hub.stop()


def load(base="me/base", adapter="me/adapter", **changes):
    options = {"adapter": adapter, "identity_encoder": "me/photomaker", "preset": TINY, **changes}
    return MagicMirrorPipeline.from_pretrained(base, **options)


def files_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_everything_is_downloaded_once_and_found_without_a_network(hub, parts, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("TQDM_POSITION", "-1")  # bars although this is no terminal
    loaded = load()
    assert same_weights(loaded, parts[1])
    commit = hub.files("me/base", "main")[0]
    assert loaded.provenance["base"] == f"me/base@{commit}"
    assert hub.downloads(SHARD) == [""] and not hub.downloads("README.md") and not hub.downloads("fp16.safetensors")
    shown = capfd.readouterr().err
    assert "Downloading me/base" in shown and "Fetching" not in shown and "Loading" not in shown
    before = files_of(tmp_path / "home")
    asked = len(hub.requests)
    hub.stop()
    assert same_weights(load(local_files_only=True), parts[1])
    assert len(hub.requests) == asked and files_of(tmp_path / "home") == before
    assert same_weights(load(), parts[1])  # nobody said that there is no network


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub, parts, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.broken[SHARD] = (5000, 1)
    assert same_weights(load(), parts[1])
    assert hub.downloads(SHARD) == ["", "bytes=5000-"]


def test_after_a_broken_download_only_the_missing_files_are_fetched(hub, parts, tmp_path):
    hub.broken[SHARD] = (5000, 100)
    with pytest.raises(WeightsError, match=r"download of me/base@\w+ was interrupted: .*Run it again: complete files"):
        load()
    assert not list((tmp_path / "home").rglob("*.incomplete"))
    hub.broken.clear()
    hub.requests.clear()
    assert same_weights(load(), parts[1])
    assert hub.downloads(SHARD) == [""]
    assert not hub.downloads("photomaker-v2.bin") and not hub.downloads("adapter.safetensors")


def test_a_corrupted_shard_is_found_removed_and_fetched_again(hub, parts, tmp_path):
    hub.corrupted |= {SHARD, "scheduler/scheduler_config.json"}
    with pytest.raises(
        WeightsError, match=rf"damaged in the cache: scheduler/.*_config\.json, {SHARD} does not match.*removed"
    ):
        load()
    hub.corrupted.clear()
    hub.requests.clear()
    assert same_weights(load(), parts[1])
    assert len(hub.downloads(SHARD)) == 1 and len(hub.downloads(".safetensors")) <= 3
    # A disk that loses bits later: seen as soon as the file changes.
    (blob,) = {path.resolve() for path in (tmp_path / "home/hub").glob(f"models--me--base/snapshots/*/{SHARD}")}
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(WeightsError, match="is damaged in the cache"):
        load(local_files_only=True)
    with pytest.raises(WeightsError, match=r"is not completely in the cache .* downloads are switched off"):
        load(local_files_only=True)
    assert same_weights(load(), parts[1])


def test_a_wrong_adapter_is_refused_before_the_base_is_fetched(hub, parts, tmp_path):
    description = hub.root / "me/adapter/magicmirror_adapter.json"
    wrong = {**json.loads(description.read_text()), "version": 99}
    description.write_text(json.dumps(wrong))
    with pytest.raises(WeightsError, match="99"):
        load()
    assert not hub.downloads(".safetensors") or not hub.downloads(SHARD)
    shutil.copytree(parts[0] / "me/adapter", hub.root / "me/adapter", dirs_exist_ok=True)
    other = json.loads(description.read_text())
    other["transformer"]["num_layers"] = 42
    description.write_text(json.dumps(other))
    with pytest.raises(WeightsError, match=r"made for another transformer: num_layers is 42, expected 3"):
        load()
    assert same_weights(load(adapter=str(parts[0] / "me/adapter")), parts[1])


def edit(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("part", "changes", "arguments", "reason"),
    [
        ("base/text_encoder", {"d_model": 48}, {}, "d_model of its text_encoder is 48, expected 16"),
        ("base/vae", {"latent_channels": 8}, {}, "latent_channels of its vae is 8, expected 4"),
        ("base/transformer", {"num_layers": 30}, {}, "num_layers is 30, expected 3"),
        (
            "base/transformer",
            {},
            {"preset": "cogvideox-5b"},
            "made for another transformer: attention_head_dim is 16, expected 64",
        ),
        ("base/transformer", {}, {"preset": None}, "no adapter is designed for"),
        ("base/transformer", {}, {"preset": WIDER}, "made for another identity_fusion: hidden_dim is 24, expected 28"),
        ("base/transformer", {}, {"preset": MORE}, "made for another transformer: num_face_tokens is 4, expected 5"),
        ("base/transformer", {"attention_bias": False}, {}, "made for another transformer: attention_bias is True"),
    ],
)
def test_what_does_not_fit_shows_before_any_weights_are_fetched(hub, part, changes, arguments, reason):
    edit(hub.root / "me" / part / "config.json", **changes)
    with pytest.raises(WeightsError, match=reason):
        load(**arguments)
    assert not any(hub.downloads(ending) for ending in (".safetensors", ".bin", ".model", "tokenizer.json"))


@pytest.mark.parametrize("part", ["transformer", "face_perceiver", "identity_fusion"])
def test_an_adapter_for_another_saved_pipeline_shows_before_any_weights_are_fetched(hub, parts, part):
    parts[1].save_pretrained(hub.root / "me/saved")
    description = hub.root / "me/adapter/magicmirror_adapter.json"
    sizes = {"transformer": "can_hidden_dim", "face_perceiver": "depth", "identity_fusion": "hidden_dim"}
    edit(description, **{part: json.loads(description.read_text())[part] | {sizes[part]: 99}})
    with pytest.raises(WeightsError, match=f"made for another {part}: {sizes[part]} is 99"):
        load("me/saved")
    assert not any(hub.downloads(ending) for ending in (".safetensors", ".bin", ".model", "tokenizer.json"))
    assert same_weights(load("me/saved", None), parts[1])


@pytest.mark.parametrize("kind", ["base", "saved"])
def test_components_that_are_given_are_neither_fetched_nor_missed(hub, parts, kind):
    parts[1].save_pretrained(hub.root / "me/saved")
    given = {"vae", "text_encoder", "tokenizer"} | ({"scheduler"} if kind == "saved" else set())
    given |= {"image_encoder", "identity_perceiver"}
    components = {name: parts[1].components[name] for name in given}
    loaded = load(f"me/{kind}", **components)
    assert all(loaded.components[name] is components[name] for name in given)
    assert same_weights(loaded, parts[1])
    asked = [path for _, path, _ in hub.requests]
    assert not any(f"/{name}/" in path for path in asked for name in given) and not hub.downloads(".bin")
    for name in given:
        shutil.rmtree(hub.root / "me" / kind / name, ignore_errors=True)
    assert same_weights(load(str(hub.root / "me" / kind), **components), parts[1])


@pytest.mark.parametrize(
    ("lost", "arguments", "reason"),
    [
        ("vae", {}, r"me/base has no folder vae\. Take another repository"),
        ("text_encoder/model.safetensors", {}, r"me/base has no weights of its text_encoder in safetensors\."),
        ("tokenizer", {}, r"me/base has no folder tokenizer\."),
        ("README.md", {"variant": "fp8"}, r"No part of me/base has the variant fp8\. Leave it out"),
    ],
)
def test_what_a_repository_lacks_shows_before_the_rest_is_fetched(hub, lost, arguments, reason):
    path = hub.root / "me/base" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(WeightsError, match=reason):
        load(**arguments)
    assert not hub.downloads(SHARD) and not hub.downloads("vae/diffusion_pytorch_model.safetensors")


@pytest.mark.parametrize("changes", [{"adapter": "me/adapter@v3"}, {"identity_encoder": "me/photomaker@v3"}])
def test_a_revision_of_adapter_or_encoder_that_does_not_exist(hub, changes):
    (name,) = (source.partition("@")[0] for source in changes.values())
    with pytest.raises(WeightsError, match=rf"{name} has no revision v3\. Check branch"):
        load(**changes)
    assert not hub.downloads(SHARD)


def test_a_cache_behind_a_link(hub, parts, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    for offline in (False, True):
        assert same_weights(load(cache_dir=tmp_path / "link", local_files_only=offline), parts[1])
    assert len(hub.downloads(SHARD)) == 1


def test_a_transformer_that_is_given_is_what_base_and_adapter_are_compared_with(hub, parts):
    transformer = parts[1].transformer
    assert load(transformer=transformer).transformer is transformer
    assert not hub.downloads("transformer/config.json")
    for given, reason in (
        ({"transformer": build_pipeline(num_layers=2).transformer}, "num_layers is 2, expected 3"),
        ({"text_encoder": T5EncoderModel(T5Config(d_model=24, num_layers=1))}, "d_model of its text_encoder is 24"),
    ):
        with pytest.raises(WeightsError, match=reason):
            load(**given)
    before = len(hub.downloads("vae/diffusion_pytorch_model.safetensors"))
    assert load(vae=None).vae is None  # left out is not fetched either
    assert len(hub.downloads("vae/diffusion_pytorch_model.safetensors")) == before


def test_revisions_of_base_and_adapter(hub, parts, tmp_path):
    other = build_pipeline(seed=5)
    publish(tmp_path / "v2", other)
    hub.revisions = {"me/base": {"v2": tmp_path / "v2/base"}, "me/adapter": {"v2": tmp_path / "v2/adapter"}}
    shutil.copytree(tmp_path / "v2/photomaker", hub.root / "me/other")
    loaded = load("me/base@v2", "me/adapter@v2", identity_encoder="me/other")
    assert same_weights(loaded, other)
    assert same_weights(load(adapter="me/adapter@v2", identity_encoder="me/other", revision="v2"), other)
    commit = loaded.provenance["base"].partition("@")[2]
    assert same_weights(load(f"me/base@{commit}", "me/adapter@v2", identity_encoder="me/other"), other)
    with pytest.raises(WeightsError, match="me/base has no revision v3"):
        load("me/base@v3")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"base": "me/nobody"}, "me/nobody is no folder here, and the hub knows no such repository"),
        ({"adapter": "me/nobody"}, "me/nobody is no folder here"),
        ({"base": "me/adapter"}, r"me/adapter has no model_index\.json"),
        ({"adapter": "me/base"}, r"me/base has no magicmirror_adapter\.json"),
        ({"identity_encoder": "me/adapter"}, r"me/adapter has no photomaker-v2\.bin"),
        ({"base": "me/gated"}, r"me/gated asks everybody to accept its terms.*hf auth login"),
        ({"base": "../x/y"}, "is not a saved pipeline"),
    ],
)
def test_what_is_not_there(hub, arguments, reason):
    shutil.copytree(hub.root / "me/base", hub.root / "me/gated")
    hub.gated.add("me/gated")
    with pytest.raises(WeightsError, match=reason):
        load(**arguments)


@pytest.mark.parametrize(
    ("status", "of_file", "of_everything"),
    [
        (401, r"not accept the login for me/base.*hf auth login", r"not accept the login for me/base:.*HF_TOKEN"),
        (403, r"not let you read me/base.*Ask for access", r"not let you read me/base\. Ask for access"),
        (404, rf"me/base@\w+ has no {SHARD}\. Check its name", r"hub knows no me/base\. Check"),
        (429, r"too many requests .* me/base.*Wait", r"too many requests .* me/base now\. Wait"),
        (503, r"has a fault and does not send me/base.*status 503.*later", r"fault.* me/base now: status 503"),
    ],
)
def test_what_the_hub_answers_is_said(hub, parts, status, of_file, of_everything):
    hub.refused = {SHARD: status}
    with pytest.raises(WeightsError, match=of_file):
        load()
    hub.refused = {"": status}
    shutil.rmtree(constants.HF_HUB_CACHE)
    with pytest.raises(WeightsError, match=of_everything):
        load()
    hub.refused = {}
    assert same_weights(load(), parts[1])


def test_an_adapter_without_weights_is_refused(hub):
    (hub.root / "me/adapter/magicmirror_adapter.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"me/adapter has no magicmirror_adapter\.safetensors\. Check"):
        load()


@pytest.mark.parametrize("inner", ["", "hub"])
def test_a_file_in_the_place_of_the_cache(hub, tmp_path, inner):
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match=r"nothing can be written there\. Set HF_HOME"):
        load(cache_dir=tmp_path / "file" / inner)


def test_no_network(hub, parts, monkeypatch):
    hub.stop()
    with pytest.raises(WeightsError, match=r"me/base is not completely in the cache .* hub cannot be reached.*folder"):
        load()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"me/base is not completely in the cache .* downloads are switched off"):
        load()


def test_too_little_space_is_said_before_the_download(hub, parts, monkeypatch):
    usage = shutil.disk_usage("/")
    with monkeypatch.context() as small:
        small.setattr(own_hub.shutil, "disk_usage", lambda _: usage._replace(free=own_hub._SPARE_BYTES + 10_000))
        with pytest.raises(
            WeightsError, match=r"adapter needs 0\.\d MB more .* 268\.4 MB are free and 268\.4 MB are kept"
        ):
            load()
    assert not hub.downloads(".safetensors")
    assert same_weights(load(), parts[1])


READ_ONLY = """
import sys
from huggingface_hub import constants
constants.ENDPOINT, *caches = sys.argv[1:]
constants.HUGGINGFACE_CO_URL_TEMPLATE = constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
from tests.pipeline.test_hub import load
for cache in caches:
    try:
        print("loaded", load(cache_dir=cache).provenance["base"])
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_a_cache_that_is_read_only_serves_what_it_has(hub, tmp_path, repository):
    """A file system of its own, read-only: the superuser may write into any folder."""
    caches = [tmp_path / "caches" / name for name in ("filled", "empty")]
    for cache in caches:
        cache.mkdir(parents=True)
    load(cache_dir=caches[0])
    shutil.rmtree(caches[0] / "magicmirror")
    isolate = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-Urm"]
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0"'
    where = str(tmp_path / "caches")
    if not shutil.which("unshare") or subprocess.run([*isolate, "sh", "-c", mount, where]).returncode:
        pytest.skip("this system allows no mounts of one's own")
    script = [*isolate, "sh", "-c", f'{mount} && exec "$@"', where, sys.executable, "-c", READ_ONLY, hub.url]
    clean = {**os.environ, "PYTHONPATH": str(repository), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([*script, *map(str, caches)], capture_output=True, text=True, env=clean, check=False)
    filled, empty = done.stdout.splitlines()
    assert filled.startswith("loaded me/base@"), done.stdout + done.stderr
    assert "cannot be kept" in done.stderr and "Traceback" not in done.stderr
    assert empty.startswith("WeightsError me/base is not in the cache"), done.stdout + done.stderr
    assert "nothing can be written there" in empty and "Set HF_HOME" in empty
