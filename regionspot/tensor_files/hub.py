"""A trained head as a folder, or a repository of Hugging Face's hub, holds it.

`model.safetensors` is all that is read of either, so that nothing is unpickled and no configuration
beside the weights decides anything.
"""

from pathlib import Path
from typing import Any, Self

from huggingface_hub import ModelHubMixin, hf_hub_download, try_to_load_from_cache

from regionspot.errors import InputError
from regionspot.files import atomic_write, atomic_write_bytes
from regionspot.sources import check_hub
from regionspot.tensor_files.safetensors_file import read_metadata

HEAD_FILE, CONFIG_FILE = "model.safetensors", "config.json"
CARD = """---
{{ card_data }}
---

A trained head of RegionSpot ([Yang et al. 2023](https://arxiv.org/abs/2311.01373)) for
`regionspot-autolabel`, which has the frozen towers:

```python
from regionspot import RegionSpot

model = RegionSpot.from_pretrained("OWNER/NAME")  # of this repository
```
"""


class HubHead(
    ModelHubMixin,
    library_name="regionspot-autolabel",
    pipeline_tag="zero-shot-object-detection",
    tags=["regionspot"],
    model_card_template=CARD,
):
    """What a model with a trained head gets to `save_pretrained`, `push_to_hub` and
    `from_pretrained`, with the arguments of `huggingface_hub.ModelHubMixin`."""

    # The mixin would set it on instances, which are frozen; `_save_pretrained` writes the file.
    _hub_mixin_config = {"library_name": "regionspot-autolabel"}  # noqa: RUF012

    checkpoint: Path | None

    @classmethod
    def of_head_file(cls, path: Path, **options: Any) -> Self:
        """The model of a head's file."""
        raise NotImplementedError

    def _save_pretrained(self, save_directory: Path) -> None:
        """Copy the head with its bytes, so that runs know it again by its sha256.

        Raises:
            InputError: the head was made in memory.
        """
        if self.checkpoint is None:
            raise InputError("this head is in memory alone; write it with save_head first")
        with atomic_write_bytes(save_directory / HEAD_FILE) as file:
            file.write(self.checkpoint.read_bytes())
        with atomic_write(save_directory / CONFIG_FILE) as text:
            text.write(read_metadata(self.checkpoint)["model"])

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        **options: Any,
    ) -> Self:
        """The model of a head in a folder or a repository.

        Args:
            pretrained_model_name_or_path: a folder that `save_pretrained` wrote, or `OWNER/NAME`
                of a repository.
            force_download: whether a file in the hub's cache is fetched again.
            token: of the hub; None: the one of `hf auth login`.
            cache_dir: of the hub.
            local_files_only: whether the hub's cache alone is asked.
            revision: branch, tag or commit of the repository.
            **options: of `load_model`: `device`, `dtype` and `runtime`.

        Raises:
            InputError: there is no such file, it cannot be fetched, or it is no head.
        """
        name = str(pretrained_model_name_or_path)
        if Path(name).is_dir():
            path = Path(name) / HEAD_FILE
            if not path.exists():
                raise InputError(f"{name} must hold {HEAD_FILE}, the only file that is read")
            return cls.of_head_file(path, **options)
        try:
            known = try_to_load_from_cache(name, HEAD_FILE, cache_dir, revision)
            if not local_files_only and not isinstance(known, str):
                check_hub()
            fetched = hf_hub_download(
                name,
                HEAD_FILE,
                force_download=force_download,
                token=token,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                revision=revision,
            )
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{HEAD_FILE} of {name!r} cannot be had: {reason:.300}; where there is no network, "
                "give the folder of a head that was saved or downloaded"
            ) from error
        return cls.of_head_file(Path(fetched), **options)
