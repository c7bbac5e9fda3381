"""The request of an `attach`: arguments, config and environment, merged."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import PurePath

from gradient.codec.mode import Mode
from gradient.engine.launch_env import LaunchEnv
from gradient.errors import ConfigError
from gradient.objects.name_list import shorten
from gradient.repo import discovery
from gradient.repo import workspace as workspaces
from gradient.repo.config import GradientConfig
from gradient.repo.repository import Repository
from gradient.repo.trust import Trust
from gradient.state.live_objects import LiveObjects
from gradient.state.parameter_names import ParameterNames

_LOG = logging.getLogger("gradient")


@dataclass(frozen=True, slots=True)
class Request:
    """One merged request."""

    workspace: str | os.PathLike[str] | None
    """The requested workspace."""
    repo: str | None
    """The requested repo."""
    branch: str | None
    """The requested branch; None means HEAD's, or else ``main``."""
    resume: str | None
    """A revision, ``"latest"`` or ``"auto"``."""
    launch_env: LaunchEnv
    """The launch, as the environment describes it."""
    config: GradientConfig
    """The settings."""
    trust: Trust
    """The owners whose repos may be written to."""

    @property
    def mode(self) -> Mode:
        """The compression mode."""
        return Mode(self.config.compression)

    @property
    def background(self) -> bool:
        """True if commits are written in the background."""
        asked = self.launch_env.background
        return self.config.background if asked is None else asked

    @property
    def reason(self) -> str:
        """The reason that the reflogs record for this engine's moves, with its launch."""
        return self.launch_env.reason


def request(
    *,
    workspace: str | os.PathLike[str] | None,
    repo: str | None,
    config: GradientConfig | None,
    resume: str | None,
) -> Request:
    """Merge arguments, config and environment; the environment wins, then the arguments.

    No other function of the library reads the environment. Raises ConfigError.
    """
    config = GradientConfig() if config is None else config
    if not isinstance(config, GradientConfig):
        raise ConfigError(f"config is of type {type(config).__name__}; allowed is a GradientConfig")
    config.check()
    launch_env = LaunchEnv.read(os.environ)
    return Request(
        workspace=launch_env.workspace or workspace or config.workspace_path,
        repo=launch_env.repo or repo or config.repo_name,
        branch=launch_env.branch or config.explicit_branch,
        resume=launch_env.resume or resume,
        launch_env=launch_env,
        config=config,
        trust=Trust.read(os.environ),
    )


def open_repository(asked: Request) -> Repository:
    """Open the requested repo; create the repo and the workspace if they are named and missing.

    Raises ContextError, OwnershipError, ForeignRepoError, FormatVersionError, GradientIOError.
    """
    place = discovery.locate(workspace=asked.workspace, repo=asked.repo)
    if not workspaces.is_repo(place.repo):
        workspaces.init_workspace(place.workspace)
        workspaces.create_repo(
            place.repo, name=PurePath(place.repo).name, workspace_path=place.workspace
        )
    opened = Repository.open(place.repo, workers=asked.config.workers, trust=asked.trust)
    opened.check_writable()
    return opened


def warn_of_foreign_parameters(objects: LiveObjects) -> None:
    """Warn if the optimizer has parameters that the model does not own: commits lack them."""
    outside = ParameterNames(objects.model, objects.optimizer).outside
    if outside:
        _LOG.warning(
            "the optimizer has %d parameters that the model does not own (%s): commits hold their "
            "optimizer state, but not their values; attach the whole model, or register_state them",
            len(outside),
            shorten(outside, _SHOWN),
        )


_SHOWN = 5
