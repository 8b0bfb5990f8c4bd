"""`python -m ngvae_tools` is `ngvae-tools`."""

from ngvae_tools.cli.app import main

main()
