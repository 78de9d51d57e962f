// A small vision transformer, or a small CNN, on Fashion-MNIST: train, keep the best epoch, explain as heat maps.
#include <fmt/format.h>
#include <whence/data.h>
#include <whence/lrp.h>
#include <whence/nn.h>

#include <CLI/CLI.hpp>
#include <filesystem>

using namespace whence;

namespace {

// ViT (Dosovitskiy et al. 2021, arXiv 2010.11929) with pre-norm blocks and the mean of all tokens before the head.
struct Block : nn::Module {
  Block(Module& parent, const std::string& name, int64_t width, int64_t heads, double dropout)
      : Module(parent, name),
        before_attention(*this, "norm1", width),
        attention(*this, "attention", width, heads),
        before_mlp(*this, "norm2", width),
        mlp(*this, "mlp", width, 2 * width),
        drop1(*this, "drop1", dropout),
        drop2(*this, "drop2", dropout) {}
  Var operator()(Arg x) const {
    nn::ModuleScope here(*this, x);
    Var y = x + drop1(attention(before_attention(x)));
    return y + drop2(mlp(before_mlp(y)));
  }
  nn::LayerNorm before_attention;
  nn::MultiHeadAttention attention;
  nn::LayerNorm before_mlp;
  nn::FeedForward mlp;
  nn::Dropout drop1, drop2;
};

struct Vit : nn::Module {
  Vit(int64_t width, int64_t layers, int64_t patch, double dropout)
      : patches(*this, "patches", 1, width, patch),
        positions(parameter("positions", {(28 / patch) * (28 / patch), width}, nn::Init::normal(0.02))),
        blocks(*this, "blocks", layers, width, std::max<int64_t>(1, width / 32), dropout),
        norm(*this, "norm", width),
        head(*this, "head", width, 10) {}
  Var operator()(Arg image) const {  // (B, 1, 28, 28) -> (B, 10)
    Var x = patches(image) + positions;
    for (const Block& b : blocks) x = b(x);
    return head(mean(norm(x), 1));
  }
  nn::PatchEmbedding patches;
  nn::Parameter& positions;
  nn::ModuleList<Block> blocks;
  nn::LayerNorm norm;
  nn::Linear head;
};

struct Cnn : nn::Module {
  explicit Cnn(double dropout) : drop(*this, "drop", dropout) {}
  Var operator()(Arg image) const {  // (B, 1, 28, 28) -> (B, 10)
    Var x = max_pool(relu(first(image)), {.kernel = {2}});
    x = max_pool(relu(second(x)), {.kernel = {2}});
    return head(drop(relu(hidden(nn::flatten(x)))));
  }
  nn::Conv2d first{*this, "first", 1, 32, {3}, {.padding = {1}}},
      second{*this, "second", 32, 64, {3}, {.padding = {1}}};
  nn::Linear hidden{*this, "hidden", 64 * 7 * 7, 128}, head{*this, "head", 128, 10};
  nn::Dropout drop;
};

struct Options {
  std::string data = "/usr/share/datasets/fashion-mnist", model = "cnn", out = "out/vit";
  int64_t epochs = 4, batch = 64, width = 64, layers = 4, patch = 4, limit = 0, explain = 6;
  double lr = 2e-3, dropout = 0.1;
  uint64_t seed = 0;
};

const std::vector<std::string> kClasses{"T-shirt", "trousers", "pullover", "dress", "coat",
                                        "sandal",  "shirt",    "sneaker",  "bag",   "ankle boot"};

Dataset first_of(Dataset all, int64_t limit) {
  if (limit > 0) all.size = std::min(all.size, limit);
  return all;
}

// White for nothing, red for what speaks for the class, blue for what speaks against it; [28, 28] as RGB.
Tensor heat_map(const Tensor& relevance) {
  const std::vector<double> r = relevance.to_vector<double>();
  double most = 1e-12;
  for (double v : r) most = std::max(most, std::fabs(v));
  Tensor rgb = Tensor::full({28, 28, 3}, 255, u8);
  for (size_t i = 0; i < r.size(); ++i) {
    const double a = std::pow(std::fabs(r[i]) / most, 0.7);
    const int towards[3] = {r[i] > 0 ? 200 : 47, r[i] > 0 ? 68 : 111, r[i] > 0 ? 47 : 179};
    for (size_t c = 0; c < 3; ++c) rgb.data<uint8_t>()[3 * i + c] = uint8_t(std::lround(255 + (towards[c] - 255) * a));
  }
  return rgb;
}

template <class Model> int run(Model& model, const Options& o) {
  model.init(o.seed);
  Dataset train = first_of(labelled_images(o.data, "train"), o.limit),
          test = first_of(labelled_images(o.data, "t10k"), o.limit);
  DataLoader batches(train, {.batch_size = o.batch, .drop_last = true, .seed = o.seed});
  nn::TrainStep step(model, nn::AdamW{.lr = o.lr, .weight_decay = 0.01},
                     [&](Graph& g, const Batch& b) {
                       return cross_entropy(model(g.input("image", b["image"])), g.input("label", b["label"]));
                     },
                     {.clip_norm = 1,
                      .schedule = nn::one_cycle(o.epochs * batches.batches()),
                      .groups = nn::no_decay_on_vectors(model),
                      .seed = o.seed});
  nn::EvalStep eval(model, [&](Graph& g, const Batch& b) -> nn::EvalStep::Named {
    Var right = argmax(model(g.input("image", b["image"]))) == g.input("label", b["label"]);
    return {{"accuracy", mean(cast(right, f32))}};
  });
  auto accuracy = [&] {
    DataLoader all = nn::in_order(test, 200);
    return std::map<std::string, double>{{"accuracy", eval.over(all)["accuracy"].item()}};
  };
  Graph g;
  fmt::print("{}", nn::summary(model, model(g.input("image", {o.batch, 1, 28, 28}))));
  const nn::FitResult r =
      nn::fit(step, batches,
              {.epochs = o.epochs, .folder = o.out, .label = o.model, .validate = accuracy, .larger_is_better = true});
  if (r.interrupted) return 130;
  fmt::print("{}: {:.1f} % of {} test pictures in epoch {} of {}; {}/best.safetensors\n", o.model, 100 * r.best,
             test.size, r.best_epoch + 1, r.epochs, o.out);

  // The first test pictures, all in one sweep, and a page for each.
  Batch shown = nn::in_order(test, o.explain).next();
  lrp::Explainer explainer([&](Var v) { return model(v); });
  const lrp::BatchExplanation all = explainer(shown["image"]);
  for (int64_t i = 0; i < shown["image"].size(0); ++i) {
    const std::string stem = fmt::format("{}/picture{}", o.out, i);
    save_png(stem + ".png", heat_map(all.relevance[i]));
    lrp::ExplainOptions page{.title = "Why this garment?", .classes = kClasses};
    page.subtitle = fmt::format("test picture {}, a {}", i, kClasses[size_t(shown["label"].item(i))]);
    lrp::explain([&](Var v) { return model(v); }, shown["image"][i], page).write_html(stem + ".html");
  }
  fmt::print("{}: heat maps and pages of {} pictures in {}/picture*.png, .html\n", o.model, shown["image"].size(0),
             o.out);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app{
      "Classify Fashion-MNIST with a small CNN or vision transformer, and see which pixels a prediction rests on."};
  app.add_option("--data", o.data,
                 "folder with train-images-idx3-ubyte.gz and its like (Debian: dataset-fashion-mnist)")
      ->capture_default_str()
      ->check(CLI::ExistingDirectory);
  app.add_option("--model", o.model, "cnn or vit")->capture_default_str()->check(CLI::IsMember({"cnn", "vit"}));
  app.add_option("--out", o.out,
                 "folder for checkpoints, metrics, the best model and heat maps; a run found there goes on")
      ->capture_default_str();
  app.add_option("--epochs", o.epochs, "passes over the training pictures")->capture_default_str();
  app.add_option("--batch", o.batch, "pictures per step")->capture_default_str();
  app.add_option("--lr", o.lr, "peak learning rate (AdamW, one cycle)")->capture_default_str();
  app.add_option("--dropout", o.dropout, "dropout while training")->capture_default_str()->check(CLI::Range(0.0, 0.9));
  app.add_option("--width", o.width, "vit: width, a multiple of 32")->capture_default_str();
  app.add_option("--layers", o.layers, "vit: blocks")->capture_default_str();
  app.add_option("--patch", o.patch, "vit: pixels along a patch")
      ->capture_default_str()
      ->check(CLI::IsMember({2, 4, 7, 14}));
  app.add_option("--limit", o.limit, "use at most so many pictures of each side (0: all)")->capture_default_str();
  app.add_option("--explain", o.explain, "test pictures to explain")->capture_default_str()->check(CLI::Range(1, 1000));
  app.add_option("--seed", o.seed, "initial weights, shuffling, dropout")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    if (o.model == "vit") {
      Vit model(o.width, o.layers, o.patch, o.dropout);
      return run(model, o);
    }
    Cnn model(o.dropout);
    return run(model, o);
  } catch (const std::exception& e) {
    fmt::print(stderr, "vit: {}\n", e.what());
    return 1;
  }
}
