"""What a guard is, apart from its weights: policy, prompt, verdict tokens, noise space and limits; or its fields.

A checkpoint folder carries these settings in ``holdfast.json``; a folder without that file (a published
LLaVA-Guard, say) is served by giving them all in the worker's settings. ``kind`` says which of the two it is.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from holdfast.contract.models import Defaults, FalseFlag, FieldInfo

Tokens = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]


class GuardConfig(BaseModel):
    """One served guard of text and image. Immutable; a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="Name under which the API serves the guard.")
    kind: Literal["hybrid"] = Field("hybrid", description="What it reads: a text and an image.")
    policy: str = Field("multimodal-safety-v1", min_length=1, description="A named policy, or the policy text.")
    layout: Literal["published", "policy_first"] = Field(
        "published",
        description="published: as the chat template puts it. policy_first: the image follows the policy, which is then"
        " read once for all draws; another guard than the published one.",
    )
    user_template: str = Field(
        "{policy}\n{text}", description="The user turn after the image; the slots follow {text} directly."
    )
    unsafe_tokens: Tokens = Field(("Unsafe",), description="Verdict variants; each one token in token_mass.")
    safe_tokens: Tokens = Field(("Safe",), description="Verdict variants; each one token in token_mass.")
    decision: Literal["token_mass", "generate"] = Field(
        "token_mass",
        description="token_mass: the verdict tokens' probability in one pass. generate: the greedily written answer.",
    )
    answer: Literal["word", "json_rating"] = Field(
        "word", description='Where the verdict stands: the first word, or the "rating" of a JSON answer.'
    )
    answer_prefix: str = Field(
        "", description="How every answer begins, put into the guard's mouth; the verdict tokens follow it directly."
    )
    max_new_tokens: int = Field(32, ge=1, le=1024, description="Tokens that generate writes at most.")
    unparseable: Literal["unsafe", "safe"] = Field(
        "unsafe", description="What an answer of generate counts as that gives neither verdict."
    )
    filler_token: str = Field(".", min_length=1, description="One token of the alphabet; fills unused slots.")
    mask_token: str | None = Field(None, description="One token; what the absorbing kernel writes.")
    alphabet: Literal["ordinary"] = Field(
        "ordinary",
        description="Replacement alphabet: every token of the tokenizer's own vocabulary, none added.",
    )
    tiles: Literal["base", "anyres"] = Field(
        "anyres", description="anyres: the published tiling. base: the whole image as one tile only."
    )
    noise_height: int = Field(384, ge=8, le=4096, description="Height of the space the noise is added in.")
    noise_width: int = Field(384, ge=8, le=4096, description="Width of the space the noise is added in.")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="Weights and activations; auto is bfloat16 on cuda and float32 elsewhere."
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto is cuda where present.")
    tie_band: float | None = Field(
        None,
        ge=0,
        description="Margins this near a tie count against whichever side claims; none: by number type. It must cover"
        " what the company of a batch moves, which `holdfast models check` measures.",
    )
    batch_limit: int | None = Field(
        None,
        ge=1,
        description="Language-model positions in one forward pass to begin with; `holdfast models add` measures it.",
    )
    engine: Literal["transformers", "vllm"] = Field(
        "transformers", description="What runs the language model; vllm needs `holdfast[vllm]` or vllm_url."
    )
    engine_batch: int = Field(256, ge=1, description="Prompts that vLLM reads in one step at most.")
    engine_memory: float = Field(
        0.8, gt=0, le=1, description="Share of a GPU's memory that vLLM takes; the rest is for vision tower and noise."
    )
    vllm_url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="A running `vllm serve` of the same weights, to ask instead; none: vLLM runs beside the worker.",
    )
    text_alone: bool = Field(
        False,
        description="Whether a text without an image is answered, by the prompt without it. Only for a guard that was"
        " trained, and measured, on such prompts too; engine=transformers.",
    )
    max_slots: int = Field(32, ge=0, description="Slots that one request may ask for.")
    max_text_bytes: int = Field(
        16_384, ge=1, description="UTF-8 bytes of text and suffix together; must fit the context at one token per byte."
    )
    defaults: Defaults = Field(
        Defaults(), description="Operating point where a request is silent; measured, not copied."
    )
    false_flag: FalseFlag | None = Field(None, description="What that operating point was measured to flag.")

    @model_validator(mode="after")
    def _check(self) -> "GuardConfig":
        if self.user_template.count("{text}") != 1:
            found = self.user_template.count("{text}")
            raise ValueError(
                f"user_template holds {{text}} {found} times, must hold it once; put it where the text goes"
            )
        if (self.decision, self.answer, self.answer_prefix) == ("token_mass", "json_rating", ""):
            raise ValueError(
                "answer=json_rating with decision=token_mass needs an answer_prefix that ends where the rating begins,"
                ' such as \'{\\n    "rating": "\'; give one, or use decision=generate'
            )
        if (self.engine, self.decision) == ("vllm", "generate"):
            raise ValueError("decision=generate needs engine=transformers, and engine is vllm; change one of them")
        if self.text_alone and self.engine == "vllm":
            raise ValueError("text_alone needs engine=transformers, and engine is vllm; change one of them")
        if self.vllm_url is not None and self.engine != "vllm":
            raise ValueError(f"vllm_url needs engine=vllm, and engine is {self.engine}; set it or drop the URL")
        if both := set(self.unsafe_tokens) & set(self.safe_tokens):
            raise ValueError(f"{sorted(both)} are both unsafe_tokens and safe_tokens; a variant must mean one verdict")
        if self.defaults.slots > self.max_slots:
            raise ValueError(
                f"defaults.slots={self.defaults.slots} exceeds max_slots={self.max_slots}; raise max_slots"
            )
        if self.mask_token is None and self.defaults.token_kernel == "absorbing":
            raise ValueError("defaults.token_kernel=absorbing needs a mask_token; name one or use the uniform kernel")
        return self


class TabularConfig(BaseModel):
    """One served guard of tabular inputs. Immutable; a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1, description="Name under which the API serves the guard.")
    kind: Literal["tabular"] = Field(description="What it reads: categorical and numeric fields.")
    fields: tuple[FieldInfo, ...] = Field(description="Fields in the model's order; with values, or numeric without.")
    means: tuple[float, ...] = Field(description="What is subtracted from each numeric field, in their order.")
    stds: tuple[Annotated[float, Field(gt=0)], ...] = Field(description="What each is then divided by.")
    dtype: Literal["float32", "float64"] = Field("float32", description="Weights and activations.")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto is cuda where present.")
    tie_band: float | None = Field(
        None,
        ge=0,
        description="Margins this near a tie count against whichever side claims; none: by number type. It must cover"
        " what the company of a batch moves, which `holdfast models check` measures.",
    )
    defaults: Defaults = Field(
        Defaults(), description="Operating point where a request is silent; measured, not copied."
    )
    false_flag: FalseFlag | None = Field(None, description="What that operating point was measured to flag.")

    @property
    def categorical(self) -> tuple[FieldInfo, ...]:
        """The fields that have values, the positions that token noise and attackers may change."""
        return tuple(field for field in self.fields if field.values)

    @property
    def numeric(self) -> tuple[FieldInfo, ...]:
        """The fields without values, which Gaussian noise is added to."""
        return tuple(field for field in self.fields if not field.values)

    @model_validator(mode="after")
    def _check(self) -> "TabularConfig":
        for names in ([field.name for field in self.fields], *(field.values for field in self.categorical)):
            if len(set(names)) < len(names):
                raise ValueError("two fields, or two values of one field, are named alike; rename one")
        if not self.numeric or not self.categorical or min(len(field.values) for field in self.categorical) < 2:
            raise ValueError("fields must be at least one numeric and one categorical, of two values or more; add them")
        if not len(self.means) == len(self.stds) == len(self.numeric):
            raise ValueError(
                f"{len(self.means)} means and {len(self.stds)} stds must be one per numeric field,"
                f" of which there are {len(self.numeric)}; correct them"
            )
        if self.defaults.token_kernel != "uniform":
            raise ValueError("defaults.token_kernel=absorbing needs a mask value, which fields lack; use uniform")
        return self
