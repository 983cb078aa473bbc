"""Every word that a visitor reads, in one place, short and plain; nothing else in this room holds text."""

from __future__ import annotations

from collections.abc import Mapping

from magicmirror.serving.jobs import JobStage
from magicmirror.serving.likeness import LikenessLevel

TITLE = "MagicMirror"
TAGLINE = "A photo of a face and a sentence in, a short video of that person out."

PHOTO_STEP = "1. Photo"
PHOTOS_LABEL = "One or more photos of one person"
PHOTOS_HINT = "One or more photos of one person. Sharp, well lit and looking towards the camera works best."
EXAMPLE_FACES_LABEL = "No photo at hand? Take one of these."
EXAMPLE_FACE = "Use the example face {name}"
FACES_LABEL = "Faces found"
NO_PHOTO = "The faces in your photo will appear here."
PHOTO_NUMBER = "Photo {number}"
FACE_NUMBER = "Face {number} of {count}"
CHOOSE_FACE = "Several faces: choose the one you mean."
TOO_MANY_PHOTOS = "Only the first {count} photos are used."
ODD_PHOTO = "Another person than in your other photos? (Distance {distance:.2f}, one person is below {limit:.2f}.)"

PROMPT_STEP = "2. Prompt"
PROMPT_LABEL = "What does the person do?"
PROMPT_PLACEHOLDER = "a woman smiles and turns her head"
PROMPT_HINT = "Name the person: man, woman, girl, boy, person ..."
PROMPT_EXAMPLES_LABEL = "Examples"
PROMPT_EXAMPLES = (
    "a woman smiles at the camera",
    "a man turns his head to the left",
    "a person nods slowly",
    "a woman looks up",
    "a man looks around",
)
SEED_LABEL = "Seed"
SEED_HINT = "The same seed and settings give the same video."
RANDOMISE_LABEL = "New seed each time"
ADVANCED_LABEL = "Advanced"
STEPS_LABEL = "Steps"
STEPS_HINT = "More steps take longer and give finer detail."
GUIDANCE_LABEL = "Guidance"
GUIDANCE_HINT = "How closely the video follows the prompt."
IDENTITY_LABEL = "Identity strength"
IDENTITY_HINT = "0 ignores the face, 1 is as trained."
NEGATIVE_LABEL = "Negative prompt"
NEGATIVE_HINT = "What to keep out of the video."

VIDEO_STEP = "3. Video"
GENERATE = "Generate"
STOP = "Stop"
VIDEO_LABEL = "Video"
DOWNLOAD_VIDEO = "Download video"
DOWNLOAD_SETTINGS = "Download settings"
IDLE = "Add a photo, write a prompt, press Generate."
READY = "Ready. Press Generate."

QUEUED_NEXT = "Waiting: yours is next."
QUEUED = "Waiting: place {position} in the queue."
STOPPING = "Stopping ..."
STAGES: Mapping[JobStage, str] = {
    "waiting": "Waiting",
    "loading": "Getting the model ready",
    "denoising": "Step {step} of {total}",
    "measuring": "Measuring the likeness",
    "writing": "Writing the video",
    "ended": "",
}
ETA = "about {seconds} s to go"
DONE = "Done."
CANCELLED = "Stopped. Nothing was kept."
FAILED = "That did not work. {reason}"
NOT_READY = "Videos cannot be made now. {reason}"
PROGRESS_LABEL = "Progress"

LIKENESS_TITLE = "Likeness"
LIKENESS_CHART = "Likeness from the first to the last frame"
LIKENESS: Mapping[LikenessLevel, str] = {
    "close": "A close likeness: the recogniser is sure that this is the same person.",
    "same": "Recognisable: the recogniser takes this for the same person.",
    "some": "Some resemblance, but the recogniser would not take this for the same person. "
    "Try another seed, a larger identity strength or a sharper photo.",
    "none": "Hardly any resemblance. Try another seed, a larger identity strength or a sharper photo.",
    "unseen": "In most frames no face was found. Try another seed or a prompt that keeps the face in view.",
}
USED_SEED = "Seed used"
STEPS_USED = "Steps"
TIME_USED = "Time"
FACE_SEEN = "Face seen in"
FRAMES_OF = "{seen} of {count} frames"
SECONDS = "{seconds:.1f} s"

NEED_PHOTO = "Add a photo first."
NEED_CHOICE = "Photo {number} shows several faces. Choose the one you mean."
NEED_FACE = "No usable face yet. See the note at your photo, or try another one."
CONSENT_NOTE = "Use photos of people who agreed to it. Photos and faces are forgotten when you close this page."
