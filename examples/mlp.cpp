// The shortest complete program: learn Fashion-MNIST, measure it, explain a picture.
#include <whence/data.h>
#include <whence/lrp.h>
#include <whence/nn.h>

#include <cstdio>

using namespace whence;

struct Mlp : nn::Module {
  nn::Linear in{*this, "in", 784, 128}, out{*this, "out", 128, 10};
  Var operator()(Arg x) const { return out(relu(in(nn::flatten(x)))); }
};

int main(int argc, char** argv) try {
  const std::string folder = argc > 1 ? argv[1] : "/usr/share/datasets/fashion-mnist";
  Dataset train = labelled_images(folder, "train"), test = labelled_images(folder, "t10k");
  Mlp model;
  nn::TrainStep step(model, nn::AdamW{.lr = 1e-3}, [&](Graph& g, const Batch& b) {
    return cross_entropy(model(g.input("image", b["image"])), g.input("label", b["label"]));
  });
  nn::EvalStep eval(model, [&](Graph& g, const Batch& b) -> nn::EvalStep::Named {
    Var right = argmax(model(g.input("image", b["image"]))) == g.input("label", b["label"]);
    return {{"accuracy", mean(cast(right, f32))}};
  });
  DataLoader batches(train, {.batch_size = 64}), rest = nn::in_order(test);
  nn::fit(step, batches, {.epochs = 2});
  std::printf("accuracy on %lld test pictures: %.1f %%\n", (long long)test.size,
              100 * eval.over(rest)["accuracy"].item());
  lrp::explain([&](Var v) { return model(v); }, nn::in_order(test, 1).next()["image"][0]).write_html("mlp.html");
} catch (const Error& e) {
  std::fprintf(stderr, "mlp: %s\n", e.what());
  return 1;
}
