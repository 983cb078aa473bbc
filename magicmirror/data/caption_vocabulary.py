"""All that captions are sampled from: the first vocabulary (``caption_phrases``) and what came after it.

The shipped preview weights were trained with all of it, and prompts are checked against it. Here every table of
``caption_phrases`` is repeated with additions, under the same name. The first phrase of each table is the plainest.
"""

from __future__ import annotations

from magicmirror.data import caption_phrases as first

MIRRORED = first.MIRRORED

PERSON_WORDS: dict[str, tuple[str, ...]] = {
    group: (*words, *more)
    for (group, words), more in zip(
        first.PERSON_WORDS.items(),
        (
            ("man", "man", "young man", "middle-aged man", "bearded man", "dark-haired man", "husband", "father"),
            ("woman", "woman", "young woman", "middle-aged woman", "dark-haired woman", "wife", "mother"),
            ("grandpa", "granddad", "retired man", "gray-haired man"),
            ("grandma", "granny", "retired woman", "gray-haired woman"),
            ("schoolboy", "small boy", "teenage boy"),
            ("schoolgirl", "small girl", "teenage girl"),
            ("newborn", "baby boy", "baby girl", "tiny baby"),
            ("person", "teacher", "doctor", "student", "actor", "singer", "friend", "stranger", "scientist", "artist"),
        ),
        strict=True,
    )
}
"""Ways to name a person by group: the seven of the paper's benchmark, and ``person`` for an unknown one."""

HIS_WORDS = first.HIS_WORDS | {"husband", "father", "grandpa", "granddad", "schoolboy"}
HER_WORDS = first.HER_WORDS | {"wife", "mother", "grandma", "granny", "schoolgirl"}

_MORE_ACTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "still": (
        ("sits perfectly still", "sitting perfectly still"),
        ("waits patiently and motionless", "waiting patiently and motionless"),
        ("stays still with a neutral expression", "staying still with a neutral expression"),
    ),
    "turn_left": (
        ("{slowly} swivels {their} head to the left", "{slowly} swiveling {their} head to the left"),
        ("{slowly} shows {their} profile to the left", "{slowly} showing {their} profile to the left"),
        ("{slowly} looks over to somebody on the left", "{slowly} looking over to somebody on the left"),
        ("{slowly} points {their} nose to the left", "{slowly} pointing {their} nose to the left"),
        ("{slowly} turns aside, to the left", "{slowly} turning aside, to the left"),
    ),
    "look_up": (
        ("{slowly} looks up at the ceiling", "{slowly} looking up at the ceiling"),
        ("{slowly} peers up at the stars", "{slowly} peering up at the stars"),
        ("{slowly} turns {their} face upward", "{slowly} turning {their} face upward"),
        ("{slowly} watches a bird up above", "{slowly} watching a bird up above"),
    ),
    "look_down": (
        ("{slowly} looks down at the floor", "{slowly} looking down at the floor"),
        ("{slowly} peers down at a book", "{slowly} peering down at a book"),
        ("{slowly} turns {their} face downward", "{slowly} turning {their} face downward"),
        ("{slowly} lowers {their} gaze to the table", "{slowly} lowering {their} gaze to the table"),
    ),
    "nod": (
        ("gives an approving nod", "giving an approving nod"),
        ("{slowly} nods politely", "{slowly} nodding politely"),
        ("greets somebody with a nod", "greeting somebody with a nod"),
        ("confirms with a nod", "confirming with a nod"),
    ),
    "shake": (
        ("refuses and shakes {their} head", "refusing and shaking {their} head"),
        ("{slowly} shakes {their} head in disbelief", "{slowly} shaking {their} head in disbelief"),
        ("denies it with a shake of the head", "denying it with a shake of the head"),
    ),
    "tilt_left": (
        ("{slowly} rests {their} head on the left shoulder", "{slowly} resting {their} head on the left shoulder"),
        ("{slowly} tips {their} head sideways to the left", "{slowly} tipping {their} head sideways to the left"),
        ("{slowly} bends {their} neck to the left", "{slowly} bending {their} neck to the left"),
    ),
    "blink": (
        ("flutters {their} eyelids", "fluttering {their} eyelids"),
        (
            "lowers {their} eyelids and opens {their} eyes again",
            "lowering {their} eyelids and opening {their} eyes again",
        ),
        ("blinks with both eyes", "blinking with both eyes"),
    ),
    "smile": (
        ("{slowly} cheers up and smiles", "{slowly} cheering up and smiling"),
        ("{slowly} beams with a broad smile", "{slowly} beaming with a broad smile"),
        ("{slowly} smiles warmly", "{slowly} smiling warmly"),
        ("gives a charming smile", "giving a charming smile"),
        ("smiles kindly", "smiling kindly"),
        ("looks pleased and smiles", "looking pleased and smiling"),
    ),
    "open_mouth": (
        ("{slowly} opens {their} mouth", "{slowly} opening {their} mouth"),
        ("{slowly} opens {their} mouth wide", "{slowly} opening {their} mouth wide"),
        ("{slowly} drops {their} jaw", "{slowly} dropping {their} jaw"),
        ("gasps in surprise", "gasping in surprise"),
        ("looks amazed with an open mouth", "looking amazed with an open mouth"),
        ("stares with {their} mouth open", "staring with {their} mouth open"),
        ("{slowly} parts {their} lips", "{slowly} parting {their} lips"),
        ("says aah", "saying aah"),
    ),
    "talk": (
        ("talks", "talking"),
        ("speaks", "speaking"),
        ("talks to the camera", "talking to the camera"),
        ("speaks to the audience", "speaking to the audience"),
        ("tells a story", "telling a story"),
        ("says a few words", "saying a few words"),
        ("chats with a friend", "chatting with a friend"),
        ("gives an interview", "giving an interview"),
        ("explains something", "explaining something"),
        ("recites a poem", "reciting a poem"),
        ("answers a question", "answering a question"),
        ("moves {their} lips and talks", "moving {their} lips and talking"),
    ),
}
ACTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    name: first.ACTIONS.get(name, ()) + more for name, more in _MORE_ACTIONS.items()
}
"""Phrases that follow the person: third person, and the same as a participle."""

_MORE_CAMERA: dict[str, tuple[str, ...]] = {
    "zoom_in": (
        "the camera {slowly} dollies in",
        "the picture {slowly} closes in on the face",
        "the face {slowly} fills the frame",
        "the view {slowly} magnifies the face",
    ),
    "zoom_out": (
        "the camera {slowly} dollies out",
        "the camera {slowly} retreats from the face",
        "the shot {slowly} opens up and reveals the surroundings",
        "the face {slowly} shrinks in the frame",
    ),
    "pan_left": (
        "the camera {slowly} tracks to the left",
        "the camera {slowly} sweeps left",
        "the frame {slowly} travels to the left",
        "the lens {slowly} glides to the left",
    ),
}
CAMERA: dict[str, tuple[str, ...]] = {name: first.CAMERA[name] + more for name, more in _MORE_CAMERA.items()}
"""Clauses about the camera; they stand beside the person's action or alone."""

_MORE_ADVERBS: dict[tuple[str, str], tuple[str, ...]] = {
    ("normal", "normal"): ("", "", "", "", "", ""),
    ("normal", "slow"): ("steadily and slowly", "unhurriedly", "ever so slowly", "leisurely"),
    ("normal", "quick"): ("abruptly", "briskly", "hastily", "promptly"),
    ("slight", "normal"): ("faintly", "subtly", "lightly", "a tiny bit"),
}
ADVERBS: dict[tuple[str, str], tuple[str, ...]] = {
    key: words + _MORE_ADVERBS[key] for key, words in first.ADVERBS.items()
}
"""(strength, pace) -> words that say it."""

_MORE_STYLES: dict[str, tuple[str, ...]] = {
    "none": ("soft indoor lighting", "even lighting", "on an ordinary afternoon", "unedited recording", "true colors"),
    "black_and_white": ("noir style", "colorless", "grayscale"),
    "sepia": ("brownish antique print", "nineteenth century sepia portrait"),
    "warm": (
        "with amber tones",
        "in the cozy light of a fireplace",
        "in honey colored light",
        "late summer evening glow",
    ),
    "cool": ("with steel blue tint", "in cold winter light", "bluish hue", "frosty blue mood"),
    "night": ("after midnight", "underexposed", "in deep shadow", "in a gloomy cellar"),
    "bright": ("brilliant white light", "flooded with light", "dazzling noon sun"),
    "film": ("noisy super eight footage", "worn celluloid texture", "grainy documentary"),
    "snow": ("thick flakes of snow coming down", "in a snowstorm", "snowy blizzard"),
    "rain": ("drenched by rain", "in a rainy thunderstorm", "drizzle and rain"),
    "light_leak": ("leaking orange light at the edge", "a sunbeam flare from the right"),
    "fog": (
        "in thick fog",
        "in the mist",
        "on a foggy morning",
        "surrounded by haze",
        "misty and pale",
        "veiled by white fog",
        "hazy atmosphere",
    ),
    "light_left": (
        "lit from the left",
        "with light from the left",
        "window light on the left side",
        "a lamp shining from the left",
        "with the right side in shadow",
        "dramatic side light from the left",
    ),
    "light_right": (
        "lit from the right",
        "with light from the right",
        "window light on the right side",
        "a lamp shining from the right",
        "with the left side in shadow",
        "dramatic side light from the right",
    ),
    "red_light": (
        "in red light",
        "under red neon lights",
        "bathed in crimson light",
        "in a darkroom with a red bulb",
        "glowing red like lava",
        "scarlet stage lighting",
    ),
    "green_light": (
        "in green light",
        "under green neon lights",
        "tinted emerald green",
        "green glow of a night vision device",
        "toxic green lighting",
        "in the green shade of a jungle",
    ),
    "vignette": (
        "with dark corners",
        "with a strong vignette",
        "in a spotlight",
        "spotlight on the face",
        "seen through a peephole",
        "fading to black at the edges",
    ),
}
STYLE_CLAUSES: dict[str, tuple[str, ...]] = {
    name: first.STYLE_CLAUSES.get(name, ()) + more for name, more in _MORE_STYLES.items()
}
"""Style -> clauses that stand after a comma, or without one where they begin with a preposition."""

VIDEO_FRAMINGS = (
    *(*first.VIDEO_FRAMINGS, "", ""),
    *("an interview with", "a selfie video of", "a home movie of", "an intimate portrait of", "a studio recording of"),
    *("a documentary about", "a television report about", "handheld footage of", "a webcam recording of"),
)
IMAGE_FRAMINGS = (
    *first.IMAGE_FRAMINGS,
    *("a passport photo of", "a selfie of", "a magazine cover of", "an editorial photograph of", "a candid picture of"),
)
STILL_CLAUSES = (
    *first.STILL_CLAUSES,
    *("with a relaxed face", "with a serious expression", "standing indoors", "at eye level", "sitting for a painter"),
)
ENDINGS = (
    *(*first.ENDINGS, "", "", "", "", ""),
    *("photorealistic", "crisp image", "shallow depth of field", "blurred background", "skin texture visible"),
    *("professional camera", "elegant composition", "natural skin", "beautiful", "ultra sharp"),
)
