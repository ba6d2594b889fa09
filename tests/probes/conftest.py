"""The networks that probes are tried on, one after the other."""

import pytest
from small_networks import BUILT, NETWORKS, same_state, state_of


@pytest.fixture(params=NETWORKS)
def network(request):
    """A small network; the test must leave it as it was, to the last bit."""
    found = BUILT[request.param]
    before = state_of(found)
    yield found
    assert same_state(state_of(found), before)
