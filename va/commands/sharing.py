"""The command that shares heads."""

from va import console, options
from va.commands.app import app
from va.hub_config import PushConfig


@options.stage(app, "push", PushConfig)
def push(config: PushConfig) -> None:
    """Share a run through the Hugging Face hub: weights, run.json and a model card; prints the commit's address."""
    with console.progress("loading libraries"):
        from va import hub, hub_pack

    packed = hub_pack.pack(
        config.run,
        repo_id=config.repo_id,
        license_name=config.license,
        metrics=config.metrics,
        verified=config.verified_on_affwild2,
    )
    for name, size in packed.sizes().items():
        console.note(f"{name}: {size / 1e6:.1f} MB")
    if config.dry_run is not None:
        hub_pack.save(packed, config.dry_run)
        console.note("nothing was sent")
        console.say(str(config.dry_run))
        return
    url = hub.push(
        packed,
        repo_id=config.repo_id,
        private=config.private,
        revision=config.revision,
        message=config.message,
        endpoint=None,
    )
    console.say(url)
