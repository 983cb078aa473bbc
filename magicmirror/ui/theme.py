"""The look of the page in Gradio's own variables: colours and type, light and dark; rules are in ``ui.stylesheet``."""

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
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
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
        checkbox_border_color="*neutral_400",
        checkbox_border_color_dark="*neutral_400",
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
