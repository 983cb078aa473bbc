"""The look of the page: colours, type and the few rules that Gradio has no variable for; light and dark."""

from __future__ import annotations

import gradio as gr

_PLUM = gr.themes.Color(
    name="plum",
    c50="#f8f4fb",
    c100="#efe6f6",
    c200="#dfcdec",
    c300="#c7a8de",
    c400="#a97bca",
    c500="#8a55b3",
    c600="#713f99",
    c700="#5b327c",
    c800="#472a60",
    c900="#352148",
    c950="#211430",
)
_INK = gr.themes.Color(
    name="ink",
    c50="#faf9fb",
    c100="#f3f1f5",
    c200="#e5e2e9",
    c300="#cdc8d4",
    c400="#9d96a8",
    c500="#6f687b",
    c600="#524c5e",
    c700="#3d3848",
    c800="#292532",
    c900="#1c1924",
    c950="#131118",
)
_SANS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def build_theme() -> gr.themes.Base:
    """Make the theme. Its fonts are the visitor's own, so that nothing is fetched from elsewhere."""
    theme = gr.themes.Base(
        primary_hue=_PLUM,
        secondary_hue=_PLUM,
        neutral_hue=_INK,
        radius_size=gr.themes.sizes.radius_lg,
        text_size=gr.themes.sizes.text_md,
        font=_SANS,
        font_mono=_MONO,
    )
    return theme.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_800",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_title_text_weight="600",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        block_shadow="0 1px 2px rgb(28 25 36 / 6%)",
        input_background_fill="*neutral_50",
        input_background_fill_dark="*neutral_800",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_700",
        input_border_color_focus="*primary_500",
        input_border_color_focus_dark="*primary_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_500",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="white",
        button_secondary_background_fill="white",
        button_secondary_background_fill_dark="*neutral_800",
        button_border_width="1px",
        button_border_width_dark="1px",
        button_primary_border_color="transparent",
        button_primary_border_color_dark="transparent",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_600",
        slider_color="*primary_500",
    )


CSS = """
.gradio-container { max-width: 1120px !important; margin: 0 auto !important; }
.gradio-container .html-container { padding: 0; }
.gradio-container footer { opacity: .8; }
.gradio-container footer .divider:last-child { display: none; }
@media (min-width: 820px) { .mm-sticky { position: sticky; top: 1rem; align-self: flex-start; } }

.mm-head { display: flex; flex-wrap: wrap; align-items: baseline; gap: .25rem 1rem; padding: .75rem 0 .25rem; }
.mm-head h1 { font-size: 1.75rem; font-weight: 700; letter-spacing: -.02em; margin: 0; color: var(--body-text-color); }
.mm-head p { margin: 0; color: var(--body-text-color-subdued); }
.mm-step { font-size: 1rem; font-weight: 650; margin: .25rem 0 0; color: var(--body-text-color); }
.mm-note { font-size: .85rem; color: var(--body-text-color-subdued); margin: .1rem 0; }
.mm-alert { padding: .7rem .9rem; border-radius: var(--radius-lg); border: 1px solid #d08a2a; color: inherit;
  background: color-mix(in srgb, #d08a2a 12%, transparent); }

.mm-strip { display: flex; flex-wrap: wrap; gap: .45rem; align-items: flex-start; }
.mm-strip button { padding: 0; border: 2px solid transparent; border-radius: var(--radius-lg); background: none;
  cursor: pointer; line-height: 0; overflow: hidden; transition: border-color .12s, transform .12s; }
.mm-strip img { width: 3.3rem; height: 3.3rem; object-fit: cover; border-radius: calc(var(--radius-lg) - 2px); }
.mm-strip button:hover { border-color: var(--color-accent); }
.mm-strip button:focus-visible { outline: 3px solid var(--color-accent); outline-offset: 2px; }
.mm-strip button[aria-pressed="true"] { border-color: var(--color-accent);
  box-shadow: 0 0 0 3px color-mix(in srgb, var(--color-accent) 35%, transparent); }
.mm-faces button[aria-pressed="false"] img { opacity: .55; }
.mm-faces img { width: 5.5rem; height: 5.5rem; }
.mm-photo { margin-bottom: .6rem; }
.mm-choose { font-size: .9rem; font-weight: 600; color: var(--color-accent); margin: .1rem 0 .35rem; }

.mm-status { min-height: 3.4rem; display: flex; flex-direction: column; justify-content: center; gap: .5rem; }
.mm-status p { margin: 0; display: flex; justify-content: space-between; gap: 1rem; }
.mm-status .mm-eta { color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums; }
.mm-track { height: .5rem; border-radius: 1rem; overflow: hidden; background: var(--border-color-primary); }
.mm-bar { height: 100%; border-radius: 1rem; background: var(--color-accent); transition: width .25s linear; }
.mm-bar.mm-busy { width: 30%; animation: mm-slide 1.4s ease-in-out infinite alternate; }
@keyframes mm-slide { from { margin-left: 0; } to { margin-left: 70%; } }
@media (prefers-reduced-motion: reduce) { .mm-bar.mm-busy { animation: none; width: 100%; opacity: .5; } }
.mm-bad { color: #b3372f; } .dark .mm-bad { color: #ff9d94; }

.mm-result { display: grid; gap: .6rem; }
.mm-likeness { display: grid; grid-template-columns: auto 1fr; gap: .25rem 1rem; align-items: center; }
.mm-score { font-size: 2rem; font-weight: 700; font-variant-numeric: tabular-nums; line-height: 1; }
.mm-likeness svg { width: 100%; height: 3rem; overflow: visible; }
.mm-likeness polyline { fill: none; stroke: var(--color-accent); stroke-width: 2; vector-effect: non-scaling-stroke; }
.mm-likeness line { stroke: var(--body-text-color-subdued); stroke-dasharray: 4 4; vector-effect: non-scaling-stroke;
  opacity: .6; }
.mm-facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(6.5rem, 1fr)); gap: .5rem; margin: 0; }
.mm-facts div { display: flex; flex-direction: column; }
.mm-facts dt { font-size: .8rem; color: var(--body-text-color-subdued); }
.mm-facts dd { margin: 0; font-variant-numeric: tabular-nums; font-weight: 600; overflow-wrap: anywhere; }
#mm-video video { max-height: 26rem; image-rendering: auto; }
"""
