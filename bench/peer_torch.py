"""PyTorch's side of the benches: reads a workload a line, answers with JSON a line. Same shapes, same threads."""
import json
import os
import resource
import sys
import time

import torch
import torch.nn.functional as F

torch.set_num_threads(int(os.environ.get("WHENCE_THREADS", "2")))
torch.manual_seed(0)


def best(f, seconds=1.0, least=3):
    f()
    times, begin = [], time.perf_counter()
    while len(times) < least or time.perf_counter() - begin < seconds:
        t = time.perf_counter()
        f()
        times.append(time.perf_counter() - t)
    times.sort()
    return times[len(times) // 2]


def tiny(elements, ops):
    x = torch.full((elements,), 0.5, requires_grad=True)
    ones = torch.ones(elements)

    def forward():
        y = x
        for i in range(ops):
            y = y + x if i % 3 == 0 else y * x if i % 3 == 1 else torch.tanh(y)
        return y

    def both():
        x.grad = None
        forward().backward(ones)

    return best(both, 0.5, 50)


def linear_gelu(rows, out, inner):
    x = torch.randn(rows, inner, requires_grad=True)
    w = (torch.randn(out, inner) / inner**0.5).requires_grad_()
    b = torch.randn(out, requires_grad=True)
    d = torch.randn(rows, out)

    def both():
        x.grad = w.grad = b.grad = None
        F.gelu(F.linear(x, w, b)).backward(d)

    return best(both)


class Layer(torch.nn.Module):
    def __init__(self, c, h):
        super().__init__()
        self.h = h
        self.q, self.k, self.v, self.o = (torch.nn.Linear(c, c) for _ in range(4))
        self.up, self.down = torch.nn.Linear(c, 4 * c), torch.nn.Linear(4 * c, c)
        self.n1, self.n2 = torch.nn.LayerNorm(c, 1e-12), torch.nn.LayerNorm(c, 1e-12)

    def forward(self, x):
        b, t, c = x.shape
        heads = lambda y: y.view(b, t, self.h, c // self.h).transpose(1, 2)
        a = F.scaled_dot_product_attention(heads(self.q(x)), heads(self.k(x)), heads(self.v(x)))
        x = self.n1(x + self.o(a.transpose(1, 2).reshape(b, t, c)))
        return self.n2(x + self.down(F.gelu(self.up(x))))


class Bert(torch.nn.Module):
    def __init__(self, vocab, classes, c, layers, heads, tokens):
        super().__init__()
        self.word, self.position = torch.nn.Embedding(vocab, c), torch.nn.Embedding(tokens, c)
        self.norm = torch.nn.LayerNorm(c, 1e-12)
        self.layers = torch.nn.ModuleList(Layer(c, heads) for _ in range(layers))
        self.head = torch.nn.Linear(c, classes)

    def forward(self, ids):
        x = self.norm(self.word(ids) + self.position.weight[: ids.shape[1]])
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def bert_step(batch, tokens, width, layers):
    model = Bert(258, 256, width, layers, 4, tokens)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    ids = torch.randint(2, 258, (batch, tokens))
    labels = torch.randint(0, 256, (batch * tokens,))

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(ids).view(-1, 256), labels)
        loss.backward()
        optimizer.step()

    return step


class Cnn(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Conv2d(1, 32, 3, padding=1), torch.nn.Conv2d(32, 64, 3, padding=1)
        self.na, self.nb = torch.nn.BatchNorm2d(32), torch.nn.BatchNorm2d(64)
        self.hidden, self.head = torch.nn.Linear(64 * 7 * 7, 128), torch.nn.Linear(128, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.na(self.a(x))), 2)
        x = F.max_pool2d(F.relu(self.nb(self.b(x))), 2)
        return self.head(F.relu(self.hidden(x.flatten(1))))


class Gpt(torch.nn.Module):
    def __init__(self, layers, width, heads, vocabulary, tokens):
        super().__init__()
        self.heads = heads
        self.word, self.place = torch.nn.Embedding(vocabulary, width), torch.nn.Embedding(tokens, width)
        part = lambda: torch.nn.ModuleDict({
            "n1": torch.nn.LayerNorm(width), "qkv": torch.nn.Linear(width, 3 * width),
            "out": torch.nn.Linear(width, width), "n2": torch.nn.LayerNorm(width),
            "up": torch.nn.Linear(width, 4 * width), "down": torch.nn.Linear(4 * width, width)})
        self.blocks = torch.nn.ModuleList(part() for _ in range(layers))
        self.norm = torch.nn.LayerNorm(width)

    def forward(self, ids):
        b, t = ids.shape
        x = self.word(ids) + self.place.weight[:t]
        for m in self.blocks:
            q, k, v = (y.view(b, t, self.heads, -1).transpose(1, 2) for y in m["qkv"](m["n1"](x)).chunk(3, -1))
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + m["out"](a.transpose(1, 2).reshape(b, t, -1))
            x = x + m["down"](F.gelu(m["up"](m["n2"](x)), approximate="tanh"))
        return self.norm(x) @ self.word.weight.T


def training(model, inputs, labels):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step():
        optimizer.zero_grad(set_to_none=True)
        logits = model(inputs)
        F.cross_entropy(logits.view(-1, logits.shape[-1]), labels).backward()
        optimizer.step()

    return step


def forward(model, x):
    model.eval()
    with torch.inference_mode():
        return best(lambda: model(x))


trainings = {}


def train(seconds, *sizes):  # steps that end within so many seconds, the model being kept for the next request
    if sizes not in trainings:
        trainings[sizes] = bert_step(*sizes)
    steps, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        trainings[sizes]()
        steps += 1
    return steps / (time.perf_counter() - begin)


def rss():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize()


def answer(request):
    name, *args = request.split()
    args = [int(a) for a in args]
    if name == "version":
        return {"version": torch.__version__}
    if name == "tiny":
        return {"seconds": tiny(*args)}
    if name == "linear_gelu":
        return {"seconds": linear_gelu(*args)}
    if name == "bert_step":
        return {"seconds": best(bert_step(*args), 2.0)}
    if name == "cnn_step":
        return {"seconds": best(training(Cnn(), torch.randn(args[0], 1, 28, 28), torch.randint(0, 10, (args[0],))))}
    if name == "cnn_forward":
        return {"seconds": forward(Cnn(), torch.randn(args[0], 1, 28, 28))}
    if name == "mlp_forward":
        mlp = torch.nn.Sequential(torch.nn.Linear(784, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))
        return {"seconds": forward(mlp, torch.randn(args[0], 784))}
    if name == "gpt_step":
        layers, width, heads, vocabulary, batch, tokens = args
        ids = torch.randint(0, vocabulary, (batch, tokens))
        labels = torch.randint(0, vocabulary, (batch * tokens,))
        return {"seconds": best(training(Gpt(layers, width, heads, vocabulary, tokens), ids, labels), 2.0)}
    if name == "train":
        return {"steps_per_second": train(*args)}
    if name == "bert_memory":  # in a fresh process: growth over what is there before the model
        before = rss()
        step = bert_step(*args)
        for _ in range(3):
            step()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {"bytes": peak - before}
    raise ValueError(request)


for line in sys.stdin:
    print(json.dumps(answer(line)), flush=True)
