"""Small networks of every kind that lesions are tried on, and what a probe must leave as it was."""

import torch

from modules import build, reordered, routed

NETWORKS = ("resnet", "preact", "stochastic", "vgg", "vgg_bn")


def make(name):
    """A small network whose batch norms have seen data, so that evaluation differs from initialisation."""
    torch.manual_seed(0)
    vgg = {"width": 2, "hidden": 8, "num_pools": 3}
    network = {
        "resnet": lambda: build("resnet_cifar", depth=20, width=2),
        "preact": lambda: build("resnet_cifar", depth=14, width=2, order="full_preactivation"),
        "stochastic": lambda: build("resnet_cifar", depth=14, width=2, survival_prob=0.5),
        "vgg": lambda: build("vgg_cifar", **vgg),
        "vgg_bn": lambda: build("vgg_cifar", batch_norm=True, **vgg),
    }[name]()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(16, 3, 16, 16))
    return network.eval()


BUILT = {name: make(name) for name in NETWORKS}


def images_and_labels(count=7, seed=1):
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 16, 16, generator=draws), torch.randint(10, (count,), generator=draws)


BATCHES = [images_and_labels(7, 1), images_and_labels(5, 2)]


def state_of(network):
    """Everything that a probe may not change, and a copy of its tensors."""
    return (
        {name: tensor.clone() for name, tensor in network.state_dict().items()},
        {name: module.training for name, module in network.named_modules()},
        {name: block.route for name, block in network.named_blocks()},
        network.order,
    )


def same_state(one, other):
    tensors = all(torch.equal(one[0][name], other[0][name]) for name in one[0])
    return tensors and one[0].keys() == other[0].keys() and one[1:] == other[1:]


@torch.no_grad()
def naive(network, chain, images):
    """Logits of one full pass, through the surgery that the rest of the suite uses."""
    order = [step.name for step in chain]
    routes = {name: route for step in chain for name, route in ((step.name, step.route), *step.inner)}
    with reordered(network, order), routed(network, routes):
        return network(images)
