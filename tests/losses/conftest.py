"""Random clouds, and every objective as a naive loop."""

import math

import pytest
import torch

import pcsa.losses as losses

SIZES = (5, 1, 9)  # points per cloud: uneven, one of a single point
K, D, S = 3, 2, 4


class Case:
    """Random clouds in all accepted forms, float64."""

    def __init__(self, seed=0, sizes=SIZES, per_axis=False, dtype=torch.float64):
        g = torch.Generator().manual_seed(seed)
        n, b = sum(sizes), len(sizes)
        self.sizes = sizes
        self.logits = torch.randn(n, K, generator=g, dtype=dtype) * 2
        self.pos = torch.randn(n, D, generator=g, dtype=dtype)
        self.bandwidth = torch.rand(*((n, D) if per_axis else (n,)), generator=g, dtype=dtype) * 0.5 + 0.2
        self.target = torch.randn(b, K, D, generator=g, dtype=dtype)
        self.index = torch.stack([torch.randint(s, (K,), generator=g) for s in sizes])  # within each cloud
        self.samples = torch.randn(b, K, S, D, generator=g, dtype=dtype)
        self.batch = torch.repeat_interleave(torch.arange(b), torch.tensor(sizes))
        self.ptr = torch.tensor([0, *sizes]).cumsum(0)
        self.visible = torch.tensor([[True, False, True], [False, False, True], [True, True, False]])[:b]


def distance(a, b, norm, sigma=None):
    if norm == "bounded":
        return 1 - (-(a - b).square().sum() / (2 * sigma**2)).exp()
    if norm == "l2":
        return (a - b).square().sum().sqrt()
    return (a - b).abs().sum() if norm == "l1" else (a - b).square().sum()


# One cloud, one keypoint, loops over points and axes: logit [N], y [N, D], s [N, D], t [D].


def naive_expectation(logit, y, s, t, norm="l2", sigma=None):
    prob = logit.softmax(0)
    return distance(sum(prob[i] * y[i] for i in range(len(logit))), t, norm, sigma)


def naive_discrete(logit, y, s, t, norm="l2", sigma=None):
    prob = logit.softmax(0)
    return sum(prob[i] * distance(y[i], t, norm, sigma) for i in range(len(logit)))


def naive_mixture_error(logit, y, s, t, norm="l1", sigma=None):
    prob, total = logit.softmax(0), 0.0
    for i in range(len(logit)):
        if norm == "bounded":  # the error is 1 - c N(x; t, sigma²), and ∫ N(x; y, s²) N(x; t, sigma²) dx a density
            inside = prob[i]
            for d in range(D):
                width = (s[i, d] ** 2 + sigma**2).sqrt()
                density = torch.distributions.Normal(y[i, d], width).log_prob(t[d]).exp()
                inside = inside * density * math.sqrt(2 * math.pi) * sigma
            total = total + prob[i] - inside
            continue
        for d in range(D):
            mu, sigma = y[i, d] - t[d], s[i, d]
            if norm == "squared":
                total = total + prob[i] * (mu**2 + sigma**2)
            else:  # ∫|x| N(x; μ, σ²) dx through the standard normal's density φ and distribution function Φ
                normal = torch.distributions.Normal(logit.new_zeros(()), logit.new_ones(()))
                density = normal.log_prob(mu / sigma).exp()
                total = total + prob[i] * (2 * sigma * density + mu * (2 * normal.cdf(mu / sigma) - 1))
    return total


def naive_variance(logit, y, s, t, target_variance=0.3):
    prob, total = logit.softmax(0), 0.0
    for d in range(D):
        mean = sum(prob[i] * y[i, d] for i in range(len(logit)))
        total = total + (sum(prob[i] * (y[i, d] - mean) ** 2 for i in range(len(logit))) - target_variance) ** 2
    return total


def naive_js(logit, y, s, t, sigma=0.7, center="mean", detach_center=False):
    prob = logit.softmax(0)
    c = t if center == "target" else sum(prob[i] * y[i] for i in range(len(logit)))
    c = c.detach() if detach_center else c
    weight = [(-(y[i] - c).square().sum() / (2 * sigma**2)).exp() for i in range(len(logit))]
    total = 0.0
    for i in range(len(logit)):
        q = weight[i] / sum(weight)
        m = (prob[i] + q) / 2
        total = total + (prob[i] * (prob[i] / m).log() + q * (q / m).log()) / 2
    return total


def naive_nll(logit, y, s, t):
    prob, density = logit.softmax(0), 0.0
    for i in range(len(logit)):
        density = density + prob[i] * torch.distributions.Normal(y[i], s[i]).log_prob(t).sum().exp()
    return -density.log()


def naive_cross_entropy(logit, y, s, t):
    nearest = min(range(len(logit)), key=lambda i: (distance(y[i], t, "squared").item(), i))
    return -logit.softmax(0)[nearest].log()


def naive_soft_label(logit, y, s, t, sigma=0.7, subtract_entropy=False):
    weight = [(-(y[i] - t).square().sum() / (2 * sigma**2)).exp().detach() for i in range(len(logit))]
    prob, total = logit.softmax(0), 0.0
    for i in range(len(logit)):
        q = weight[i] / sum(weight)
        total = total - q * prob[i].log() + (q * q.log() if subtract_entropy else 0.0)
    return total


# name: (reference, how the tensors enter the public function, options)
ERRORS = [{"norm": "l2"}, {"norm": "l1"}, {"norm": "squared"}, {"norm": "bounded", "sigma": 0.8}]
ON_POINTS = {
    f"{name}-{'-'.join(map(str, options.values()))}": (naive, names, getattr(losses, name), options)
    for name, naive, names, choices in [
        ("expectation_error", naive_expectation, "lyt", ERRORS),
        ("discrete_expected_error", naive_discrete, "lyt", ERRORS),
        ("mixture_expected_error", naive_mixture_error, "lyst", ERRORS[1:]),
        ("variance_regularization", naive_variance, "ly", [{"target_variance": 0.3}]),
        (
            "js_regularization",
            naive_js,
            "lygt",
            [{"center": c, "detach_center": d} for c in ("mean", "target") for d in (False, True)],
        ),
        ("mixture_nll", naive_nll, "lyst", [{}]),
        ("nearest_point_cross_entropy", naive_cross_entropy, "lyt", [{}]),
        ("soft_label_cross_entropy", naive_soft_label, "lygt", [{"subtract_entropy": e} for e in (False, True)]),
    ]
    for options in choices
}


def arguments(names, logits, pos, bandwidth, target):
    return [{"l": logits, "y": pos, "s": bandwidth, "t": target, "g": 0.7}[n] for n in names]


def call(entry, case, form="batch", **more):
    """The public function on a Case in one of the accepted forms."""
    _, names, function, options = entry
    logits, pos, bandwidth = case.logits, case.pos, case.bandwidth
    if form == "dense":  # padding holds NaN: it must not be read
        size = max(case.sizes) + 2
        filled = torch.arange(size) < torch.tensor(case.sizes)[:, None]

        def pad(x):
            return torch.full((*filled.shape, *x.shape[1:]), math.nan, dtype=x.dtype).masked_scatter(
                filled.view(*filled.shape, *[1] * (x.dim() - 1)), x
            )

        logits, pos, bandwidth = pad(logits), pad(pos), pad(bandwidth)
        more["mask"] = filled
    elif form == "ptr":
        more["ptr"] = case.ptr
    else:
        more["batch"] = case.batch
    return function(*arguments(names, logits, pos, bandwidth, case.target), **options, **more)


def reference(entry, case):
    """[B, K] by the loop."""
    naive, _, _, options = entry
    spread = case.bandwidth if case.bandwidth.dim() == 2 else case.bandwidth[:, None].expand(-1, D)
    rows = []
    for b in range(len(case.sizes)):
        own = slice(case.ptr[b], case.ptr[b + 1])
        parts = [(case.logits[own, k], case.pos[own], spread[own], case.target[b, k]) for k in range(K)]
        rows.append(torch.stack([naive(*part, **options) for part in parts]))
    return torch.stack(rows)


def visible_calls():
    """Every function that takes ``visible``, as ``f(case, **options)`` with its differentiable inputs."""
    yield "sample_error", lambda c, **o: losses.sample_error(c.samples, c.target, **o), ["samples"]
    yield (
        "position_error",
        lambda c, **o: losses.position_error(c.samples[:, :, 0], c.target, **o),
        ["samples"],
    )
    yield (
        "cross_entropy_by_index",
        lambda c, **o: losses.nearest_point_cross_entropy(
            c.logits, c.pos, batch=c.batch, index=c.index + c.ptr[:-1, None], **o
        ),
        ["logits"],
    )
    yield (
        "soft_label_by_distance",
        lambda c, **o: losses.soft_label_cross_entropy(
            c.logits,
            c.pos,
            0.7,
            batch=c.batch,
            # NaN where the target is, as what is not visible may be
            target_distance=torch.linalg.vector_norm(c.pos[:, None] - c.target[c.batch], dim=-1).detach(),
            **o,
        ),
        ["logits"],
    )
    for name, entry in ON_POINTS.items():
        yield name, lambda c, entry=entry, **o: call(entry, c, **o), ["logits", "pos", "bandwidth"]


@pytest.fixture(params=visible_calls(), ids=lambda call: call[0])
def visible_call(request):
    """An objective that takes ``visible`` as ``f(case, **options)``, and its differentiable inputs."""
    return request.param[1:]


@pytest.fixture(params=ON_POINTS.values(), ids=ON_POINTS)
def entry(request):
    return request.param


def handed_over(name, value):
    """A fixture that hands a name of this file to the tests, which cannot import it."""
    return pytest.fixture(scope="session", name=name)(lambda: value)


hand_over_case = handed_over("Case", Case)
hand_over_call = handed_over("call", call)
hand_over_reference = handed_over("reference", reference)
hand_over_arguments = handed_over("arguments", arguments)
hand_over_distance = handed_over("distance", distance)
hand_over_entries = handed_over("on_points", ON_POINTS)
