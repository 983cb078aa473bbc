"""Every word that a visitor reads, in one place, short and plain; nothing else in this room holds text."""

from __future__ import annotations

from collections.abc import Mapping

from magicmirror.serving.jobs import JobStage, OrderKind
from magicmirror.serving.likeness import LikenessLevel

TITLE = "MagicMirror"
TAGLINE = "A photo of a face and a sentence in, a short video of that person out."
DARK_MODE = "Switch between light and dark"

PHOTO_STEP = "1. Who?"
PHOTOS_LABEL = "One or more photos of one person"
PHOTOS_HINT = "One or more photos of one person. Sharp, well lit and looking towards the camera works best."
EXAMPLE_FACES_LABEL = "No photo at hand? Take one of these."
EXAMPLE_FACE = "Use the example face {name}"
FACES_LABEL = "Faces found in photo {number}"
NO_PHOTO = "The faces in your photo will appear here."
SEARCHING = "Looking for faces ..."
PHOTO_NUMBER = "Photo {number}"
FACE_NUMBER = "Face {number} of {count}"
FACE_IN_USE = "{face}, in use"
CHOOSE_FACE = "Several faces: choose the one you mean."
ANOTHER_FACE = "The framed face is used. Click another one to change."
CROP_NOTE = "This is what the model sees of the face."
GOOD_FACE = "Good: size, sharpness, light and pose are fine."
POOR_FACE = "It will work, but the likeness may suffer:"
TOO_MANY_PHOTOS = "Only the first {count} photos are used."
ODD_PHOTO = "Another person than in your other photos? (Distance {distance:.2f}, one person is below {limit:.2f}.)"

PROMPT_STEP = "2. What?"
KIND_LABEL = "Make"
KINDS: Mapping[OrderKind, str] = {
    "takes": "Video",
    "film": "Film",
    "image": "Picture",
    "compare": "Comparison",
}
KIND_HINTS: Mapping[OrderKind, str] = {
    "takes": "One short video, or several takes with the best likeness first.",
    "film": "Two to six shots with the same person, one prompt a line, joined to one film.",
    "image": "A single picture from the same model, quicker than a video.",
    "compare": "The same seed at three identity strengths, side by side.",
}
PROMPT_LABEL = "What does the person do?"
PROMPT_PLACEHOLDER = "a woman smiles and turns her head"
PROMPT_HINT = "Name the person: man, woman, girl, boy, person ... In a film, one line for each shot."
PROMPT_EXAMPLES_LABEL = "Examples"
PROMPT_EXAMPLES = (
    "a woman turns her head to the right",
    "a man opens his mouth wide",
    "a person tilts the head to the left",
    "an old man looks up, in black and white",
    "a girl looks at the camera in the rain",
)
PROMPT_NOTES_LABEL = "Notes on your prompt"
PERSON_FOUND = 'The face goes to "{word}".'
PERSON_MISSING = 'No person named yet: add a word such as "man", "woman" or "person".'
TOKENS = "{count} of {limit} tokens"
TOO_LONG = "Too long: {count} of {limit} tokens. Shorten it."
SHOT = "Shot {number}"
UNKNOWN_WORDS = "Not learnt by the preview model, may have no effect: {words}."

HELPER_LABEL = "Help me write"
HELPER_HINT = "Made of phrases the model was trained with."
HELPER_PERSON = "Person"
HELPER_MOTION = "Motion"
HELPER_STYLE = "Style"
HELPER_USE = "Put into the prompt"
MOTIONS: Mapping[str, str] = {
    "smile": "smiles",
    "open_mouth": "opens the mouth",
    "talk": "talks",
    "turn_left": "turns to the left",
    "turn_right": "turns to the right",
    "look_up": "looks up",
    "look_down": "looks down",
    "nod": "nods",
    "shake": "shakes the head",
    "tilt_left": "tilts the head to the left",
    "tilt_right": "tilts the head to the right",
    "blink": "blinks",
    "still": "stays still",
    "zoom_in": "the camera zooms in",
    "zoom_out": "the camera zooms out",
    "pan_left": "the camera pans left",
    "pan_right": "the camera pans right",
}
STYLES: Mapping[str, str] = {
    "none": "plain",
    "black_and_white": "black and white",
    "sepia": "sepia",
    "warm": "warm light",
    "cool": "cool light",
    "night": "night",
    "bright": "bright light",
    "film": "film grain",
    "snow": "snow",
    "rain": "rain",
    "light_leak": "light leak",
    "fog": "fog",
    "light_left": "light from the left",
    "light_right": "light from the right",
    "red_light": "red light",
    "green_light": "green light",
    "vignette": "dark edges",
}

SEED_LABEL = "Seed"
SEED_HINT = "Same seed and settings, same video."
RANDOMISE_LABEL = "New seed each time"
TAKES_LABEL = "Takes"
TAKES_HINT = "Different seeds, best likeness first."
ADVANCED_LABEL = "Advanced"
STEPS_LABEL = "Steps"
STEPS_HINT = "More steps take longer and give finer detail."
FEW_STEPS_HINT = "This model is trained for {count} steps; more take longer and are not better."
GUIDANCE_LABEL = "Guidance"
GUIDANCE_HINT = "How closely the video follows the prompt."
IDENTITY_LABEL = "Identity strength"
IDENTITY_HINT = "0 ignores the face, 1 is as trained."
NEGATIVE_LABEL = "Negative prompt"
NEGATIVE_HINT = "What to keep out of the video."

VIDEO_STEP = "3. Result"
GENERATE = "Generate"
STOP = "Stop"
IDLE = "Add a photo, write a prompt, press Generate."
READY = "Ready. Press Generate."
PREVIEW_NOTE = (
    "This is the small preview model: {width} px, {seconds:.0f} seconds, soft pictures. Some takes fail: try several."
)
NOTED = "({note}.)"
FORECAST = "Takes about {time} on this machine."
FORECAST_GUESS = "Takes roughly {time}; the speed of this machine is not measured yet."
FORECAST_WAIT = "Others are before you: starts in about {time}."
FORECAST_MEMORY = "Memory: {line}."
CONSENT_LABEL = "I may use these photos: the person agreed, or it is me."
CONSENT_HINT = "Asked once in this browser."
NEED_CONSENT = "Tick that you may use the photos first (above Generate)."

STAGE_IDLE = "Your video appears here."
STAGE_LIVE = "Rough live picture while it is made"
VIDEO_ALT = "Video: {prompt}"
PICTURE_ALT = "Picture: {prompt}"
TAKE_NUMBER = "Take {number}"
SHOT_NUMBER = "Shot {number}"
STRENGTH = "Strength {value:g}"
TAKES_LIST = "Takes, best first"
SHOTS_LIST = "Shots of the film"
WHOLE_FILM = "Whole film"
RETAKE = "Retake this shot"
SHOW_TAKE = "Show {name}"
DOWNLOAD_VIDEO = "Video (mp4)"
DOWNLOAD_PICTURE = "Picture (png)"
DOWNLOAD_GIF = "GIF"
DOWNLOAD_SETTINGS = "Settings"
MAKE_ANOTHER = "Make another"
USE_SETTINGS = "Reuse settings"

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
PARTS: Mapping[OrderKind, str] = {"takes": "Take", "film": "Shot", "image": "Picture", "compare": "Strength"}
PART_OF = "{part} {number} of {count}: {text}"
ETA = "about {time} to go"
DONE = "Done."
CANCELLED = "Stopped. Nothing was kept."
FAILED = "That did not work. {reason}"
NOT_READY = "Videos cannot be made now. {reason}"
BUSY = "Wait until the present one is done, or stop it."
LOST = "Your last job is not known any more: the server was restarted. Generate again."
AWAY = "The server does not answer. Leave this page open: it goes on as soon as the server is back."
RESTARTED = "The server was restarted. Your results are still here; please add your photo again."
FOUND_AGAIN = "Still at work on what you started before."
PROGRESS_LABEL = "Progress"

LIKENESS_TITLE = "Likeness"
LIKENESS_CHART = "Likeness from the first to the last frame: lowest {low:.2f}, average {mean:.2f}, highest {high:.2f}."
LIKENESS_SCALE = "Frame by frame. 1 is identical; strangers mostly stay below the dashed line."
FRAME_VALUE = "Frame {number}: {value:.2f}"
LIKENESS_SHORT: Mapping[LikenessLevel, str] = {
    "close": "close likeness",
    "same": "recognisable",
    "some": "some resemblance",
    "none": "hardly alike",
    "unseen": "no face seen",
}
LIKENESS: Mapping[LikenessLevel, str] = {
    "close": "A close likeness: the recogniser is sure that this is the same person.",
    "same": "Recognisable: the recogniser takes this for the same person.",
    "some": "Some resemblance, but the recogniser would not take this for the same person. "
    "Make another, ask for several takes, or use a sharper photo.",
    "none": "Hardly any resemblance. Make another, ask for several takes, or use a sharper photo.",
    "unseen": "In most frames no face was found. Make another, or ask for several takes and get the best first.",
}
USED_PROMPT = "Prompt"
USED_SEED = "Seed used"
STEPS_USED = "Steps"
STRENGTH_USED = "Identity strength"
TIME_USED = "Time"
MOTION_SEEN = "Motion"
MOTION_OF = "{value:.0f} % a second"
FACE_SEEN = "Face seen in"
FRAMES_OF = "{seen} of {count} frames"
SECONDS = "{seconds:.0f} s"
MINUTES = "{minutes:.0f} min"

HISTORY_STEP = "Made in this browser"
HISTORY_EMPTY = "What you make is listed here. Only this browser can see it, and it is deleted after {hours:g} hours."
HISTORY_EMPTY_KEPT = "What you make is listed here. Only this browser can see it."
HISTORY_OPEN = "Show again: {prompt}"
HISTORY_REMOVE = "Delete: {prompt}"
JUST_NOW = "just now"
MINUTES_AGO = "{count} min ago"
HOURS_AGO = "{count} h ago"
DAYS_AGO = "{count} d ago"
RESTORE_LABEL = "Restore settings: drop an mp4 made here"
RESTORED = "Settings restored."
RESTORED_SAME_FACE = "Settings restored, and your photo is the one it was made of."
RESTORED_NEEDS_FACE = "Settings restored. A video does not hold the photo: add the photo that it was made of."
RESTORED_OTHER_FACE = "Settings restored. Your photo is another one than it was made of."
RESTORE_FAILED = "No settings were found in this file. {reason}"
NOT_OURS = "Use an mp4 or settings file that was made here."
GONE = "This result is not there any more."

NEED_PHOTO = "Add a photo first."
NEED_PROMPT = "Write what the person does."
NEED_CHOICE = "Photo {number} shows several faces. Choose the one you mean."
NEED_FACE = "No usable face yet. See the note at your photo, or try another one."
NEED_SHOTS = "A film needs two to six lines in the prompt, one for each shot; yours has {count}."
CONSENT_NOTE = (
    "Only use photos of people who agreed, never to deceive. Photos and faces are forgotten when you close this page. "
    "Every result says in its file that it was made by AI."
)


def duration(seconds: float) -> str:
    """Say a length of time as people do: seconds up to a minute and a half, then minutes."""
    return SECONDS.format(seconds=max(seconds, 1)) if seconds < 90 else MINUTES.format(minutes=seconds / 60)
