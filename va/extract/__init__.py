"""Stage one: media -> features. Import the modules, not this package: `config` must stay cheap."""
