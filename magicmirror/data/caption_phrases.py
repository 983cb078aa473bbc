"""The words that captions are made of: person words, ways to name a motion or a style, and fillers.

"Left" and "right" are always those of the viewer: "to the left" means to the left side of the picture.
In a phrase, ``{their}`` and ``{them}`` stand for the pronouns of the person word, ``{slowly}`` marks where an adverb of
pace or strength may stand (it carries its own leading blank).
"""

from __future__ import annotations

PERSON_WORDS: dict[str, tuple[str, ...]] = {
    "man": ("man", "man", "man", "guy", "gentleman", "fellow", "male"),
    "woman": ("woman", "woman", "woman", "lady", "female", "gal"),
    "elderly man": ("elderly man", "old man", "grandfather", "senior man", "aged gentleman"),
    "elderly woman": ("elderly woman", "old woman", "grandmother", "senior woman", "aged lady"),
    "boy": ("boy", "young boy", "little boy", "lad"),
    "girl": ("girl", "young girl", "little girl"),
    "baby": ("baby", "infant", "toddler"),
    "person": ("person", "person", "person", "adult", "human", "politician", "speaker"),
}
"""Ways to name a person by group (the seven of the paper's benchmark, and ``person`` for an unknown one)."""

HIS_WORDS = frozenset({"man", "guy", "gentleman", "fellow", "male", "grandfather", "boy", "lad"})
HER_WORDS = frozenset({"woman", "lady", "female", "gal", "grandmother", "girl"})

# Phrases that follow the person: third person, and the same as a participle.
ACTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "still": (
        ("stays still", "staying still"),
        ("keeps still and breathes calmly", "keeping still and breathing calmly"),
        ("looks at the camera", "looking at the camera"),
        ("looks straight at the camera", "looking straight at the camera"),
        ("faces the camera", "facing the camera"),
        ("looks into the camera without moving", "looking into the camera without moving"),
        ("holds a steady pose", "holding a steady pose"),
        ("barely moves", "barely moving"),
        ("remains motionless", "remaining motionless"),
        ("gazes quietly at the viewer", "gazing quietly at the viewer"),
        ("poses calmly for the camera", "posing calmly for the camera"),
        ("rests quietly", "resting quietly"),
        ("stares straight ahead", "staring straight ahead"),
    ),
    "turn_left": (
        ("{slowly} turns {their} head to the left", "{slowly} turning {their} head to the left"),
        ("{slowly} turns left", "{slowly} turning left"),
        ("{slowly} turns to the left", "{slowly} turning to the left"),
        ("{slowly} rotates {their} head to the left", "{slowly} rotating {their} head to the left"),
        ("{slowly} looks to the left", "{slowly} looking to the left"),
        ("{slowly} looks left", "{slowly} looking left"),
        ("{slowly} glances to the left side", "{slowly} glancing to the left side"),
        ("{slowly} faces left", "{slowly} facing left"),
        ("{slowly} moves {their} face to the left", "{slowly} moving {their} face to the left"),
        ("{slowly} turns {their} face towards the left", "{slowly} turning {their} face towards the left"),
    ),
    "look_up": (
        ("{slowly} looks up", "{slowly} looking up"),
        ("{slowly} looks upwards", "{slowly} looking upwards"),
        ("{slowly} raises {their} head", "{slowly} raising {their} head"),
        ("{slowly} lifts {their} head", "{slowly} lifting {their} head"),
        ("{slowly} lifts {their} chin", "{slowly} lifting {their} chin"),
        ("{slowly} gazes up at the sky", "{slowly} gazing up at the sky"),
        ("{slowly} glances up", "{slowly} glancing up"),
        ("{slowly} tips {their} head back", "{slowly} tipping {their} head back"),
    ),
    "look_down": (
        ("{slowly} looks down", "{slowly} looking down"),
        ("{slowly} looks downwards", "{slowly} looking downwards"),
        ("{slowly} lowers {their} head", "{slowly} lowering {their} head"),
        ("{slowly} bows {their} head", "{slowly} bowing {their} head"),
        ("{slowly} drops {their} chin", "{slowly} dropping {their} chin"),
        ("{slowly} gazes down at the ground", "{slowly} gazing down at the ground"),
        ("{slowly} glances down", "{slowly} glancing down"),
        ("{slowly} bends {their} head forward", "{slowly} bending {their} head forward"),
    ),
    "nod": (
        ("{slowly} nods", "{slowly} nodding"),
        ("{slowly} nods {their} head", "{slowly} nodding {their} head"),
        ("{slowly} nods in agreement", "{slowly} nodding in agreement"),
        ("{slowly} nods twice", "{slowly} nodding twice"),
        ("{slowly} nods yes", "{slowly} nodding yes"),
        ("agrees with a nod", "agreeing with a nod"),
        ("{slowly} moves {their} head up and down", "{slowly} moving {their} head up and down"),
        ("says yes with {their} head", "saying yes with {their} head"),
    ),
    "shake": (
        ("{slowly} shakes {their} head", "{slowly} shaking {their} head"),
        ("{slowly} shakes {their} head in disagreement", "{slowly} shaking {their} head in disagreement"),
        ("{slowly} shakes {their} head no", "{slowly} shaking {their} head no"),
        ("{slowly} moves {their} head from side to side", "{slowly} moving {their} head from side to side"),
        ("says no with {their} head", "saying no with {their} head"),
        ("{slowly} turns {their} head left and right", "{slowly} turning {their} head left and right"),
        ("{slowly} looks left and right", "{slowly} looking left and right"),
    ),
    "tilt_left": (
        ("{slowly} tilts {their} head to the left", "{slowly} tilting {their} head to the left"),
        ("{slowly} leans {their} head to the left", "{slowly} leaning {their} head to the left"),
        ("{slowly} tilts left", "{slowly} tilting left"),
        ("{slowly} inclines {their} head to the left", "{slowly} inclining {their} head to the left"),
        ("{slowly} cocks {their} head to the left side", "{slowly} cocking {their} head to the left side"),
        ("{slowly} leans left", "{slowly} leaning left"),
    ),
    "blink": (
        ("blinks", "blinking"),
        ("blinks once", "blinking once"),
        ("closes and opens {their} eyes", "closing and opening {their} eyes"),
        ("closes {their} eyes for a moment", "closing {their} eyes for a moment"),
        ("blinks at the camera", "blinking at the camera"),
        ("shuts {their} eyes briefly", "shutting {their} eyes briefly"),
    ),
    "smile": (
        ("{slowly} smiles", "{slowly} smiling"),
        ("{slowly} begins to smile", "{slowly} beginning to smile"),
        ("{slowly} starts smiling", "{slowly} starting to smile"),
        ("{slowly} smiles at the camera", "{slowly} smiling at the camera"),
        ("{slowly} breaks into a smile", "{slowly} breaking into a smile"),
        ("gives a friendly smile", "giving a friendly smile"),
        ("looks happy and smiles", "looking happy and smiling"),
        ("{slowly} grins", "{slowly} grinning"),
        ("smiles with joy", "smiling with joy"),
    ),
}

# Clauses about the camera; they stand beside the person's action or alone.
CAMERA: dict[str, tuple[str, ...]] = {
    "zoom_in": (
        "the camera {slowly} zooms in",
        "the camera {slowly} moves closer",
        "the camera {slowly} pushes in",
        "the view {slowly} gets closer",
        "the lens {slowly} zooms towards the face",
        "the camera {slowly} approaches the face",
        "the shot {slowly} tightens into a close-up",
    ),
    "zoom_out": (
        "the camera {slowly} zooms out",
        "the camera {slowly} moves back",
        "the camera {slowly} pulls back",
        "the view {slowly} widens",
        "the lens {slowly} zooms away from the face",
        "the camera {slowly} moves away",
        "the shot {slowly} becomes wider",
    ),
    "pan_left": (
        "the camera {slowly} pans to the left",
        "the camera {slowly} pans left",
        "the camera {slowly} slides to the left",
        "the camera {slowly} moves to the left",
        "the camera {slowly} drifts left",
        "the view {slowly} shifts to the left",
    ),
}

MIRRORED = {"turn_right": "turn_left", "tilt_right": "tilt_left", "pan_right": "pan_left"}
"""Motions whose phrases are those of another one with "left" and "right" exchanged."""

ADVERBS: dict[tuple[str, str], tuple[str, ...]] = {
    ("normal", "normal"): ("",),
    ("normal", "slow"): ("slowly", "gently", "gradually", "softly", "very slowly", "smoothly", "calmly"),
    ("normal", "quick"): ("quickly", "suddenly", "rapidly", "swiftly", "fast"),
    ("slight", "normal"): ("slightly", "a little", "a bit", "just a little", "barely"),
}
"""(strength, pace) -> words that say it."""

# Style -> (clause after a comma, adjective before the noun of a framing or "").
STYLE_CLAUSES: dict[str, tuple[str, ...]] = {
    "none": (
        *("", "", "", "", "", ""),
        "natural light",
        "natural colors",
        "in plain daylight",
        "studio lighting",
        "realistic style",
    ),
    "black_and_white": (
        "in black and white",
        "black and white film",
        "black-and-white video",
        "monochrome",
        "in shades of gray",
        "without any color",
        "classic monochrome photography",
    ),
    "sepia": (
        "in sepia",
        "in sepia tones",
        "sepia colored like an old photograph",
        "antique brown tones",
        "like a vintage sepia photo",
        "old-fashioned sepia look",
    ),
    "warm": (
        "in warm light",
        "warm golden light",
        "at sunset",
        "in the golden hour",
        "lit by warm orange light",
        "by candlelight",
        "in the warm glow of a fire",
        "bathed in golden sunshine",
    ),
    "cool": (
        "in cool blue light",
        "cold blue light",
        "in blue tones",
        "lit by a cold blue lamp",
        "in icy blue colors",
        "with a cool color palette",
        "in the blue light of a screen",
    ),
    "night": (
        "at night",
        "in the dark",
        "in dim light",
        "in a dark room",
        "late at night in low light",
        "in the darkness of the night",
        "under moonlight",
        "dark and moody",
    ),
    "bright": (
        "in bright light",
        "bright and airy",
        "in bright sunlight",
        "high-key lighting",
        "overexposed bright look",
        "under very bright studio lamps",
        "in a brightly lit white room",
    ),
    "film": (
        "with film grain",
        "grainy vintage film",
        "like an old movie",
        "faded retro film look",
        "shot on grainy analog film",
        "in the style of an old home video",
    ),
    "snow": (
        "snow falling",
        "while snow falls",
        "in falling snow",
        "in the snow",
        "snowflakes drifting by",
        "during a snowfall",
        "on a snowy winter day",
        "as snowflakes float through the air",
    ),
    "rain": (
        "in the rain",
        "rain falling",
        "while it rains",
        "on a rainy day",
        "in pouring rain",
        "raindrops streaking down",
        "during a heavy shower",
    ),
    "light_leak": (
        "with light leaks",
        "with an orange light leak",
        "orange lens flare",
        "a light leak glowing from the right",
        "with a glowing flare of light",
        "sun flare drifting over the picture",
    ),
}

VIDEO_FRAMINGS = (
    *("", "", "", "", "", ""),
    "a video of",
    "close-up of",
    "a close-up of",
    "a close-up video of",
    "a portrait of",
    "a short clip of",
    "a shot of",
    "a cinematic shot of",
    "footage of",
    "a film of",
    "a video portrait of",
    "a headshot of",
    "a medium close-up of",
    "a scene with",
    "a recording of",
    "we see",
)
IMAGE_FRAMINGS = (
    *("", ""),
    "a photo of",
    "a photograph of",
    "a picture of",
    "a portrait of",
    "a close-up photo of",
    "a headshot of",
    "an image of",
    "a portrait photo of",
    "a studio portrait of",
    "a professional photo of",
    "a still of",
    "a snapshot of",
    "close-up of",
)
STILL_CLAUSES = (
    *("", "", ""),
    "looking at the camera",
    "facing the camera",
    "looking straight ahead",
    "with a calm expression",
    "seen from the front",
    "posing for a portrait",
    "in front of a plain background",
)
ENDINGS = (
    *("", "", "", "", "", "", "", ""),
    "high quality",
    "detailed face",
    "4k",
    "plain background",
    "sharp focus",
    "front view",
    "simple backdrop",
    "highly detailed",
)
