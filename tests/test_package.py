"""What `import ngvae_tools` offers."""

import importlib.util

import pytest

import ngvae_tools


@pytest.mark.parametrize("name", [name for name in ngvae_tools.__all__ if name != "__version__"])
def test_a_public_name_is_a_function_and_stays_one(name):
    """A package of the same name would take its place once anything of it is imported."""
    assert importlib.util.find_spec(f"ngvae_tools.{name}") is None
    assert callable(getattr(ngvae_tools, name))
