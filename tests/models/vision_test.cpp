// Models of images.
#include "tests/models/families.h"
#include "whence/models/convnext.h"
#include "whence/models/huggingface.h"
#include "whence/models/resnet.h"
#include "whence/models/swin.h"
#include "whence/models/vit_mae.h"

using namespace whence;
using namespace whence::models;

namespace {

constexpr int64_t kBatch = 2, kClasses = 5;

template <class Model> void check_images(Model& m, int64_t size, const FamilyCheck& check = {}) {
  randomise(m);
  check_family(
      m,
      [&](Graph& g) {
        Recording r;
        r.feeds = {{"pixels", random_tensor({kBatch, 3, size, size}, 4)}};
        r.data = g.input("pixels", {kBatch, 3, size, size}, f64);
        r.result = m(r.data);
        r.shape = {kBatch, kClasses};
        return r;
      },
      check);
}

VitConfig small_vit() {
  VitConfig c;
  c.hidden_size = 12, c.layers = 2, c.heads = 3, c.intermediate_size = 16, c.image_size = 8, c.patch_size = 4;
  return c;
}

TEST(Vision, Vit) {
  Vit m(small_vit(), kClasses);
  check_images(m, 8);
  Graph g;
  EXPECT_THROW(m(g.input("pixels", {1, 3, 12, 12}, f64)), ShapeError);
}

TEST(Vision, Deit) {
  VitConfig c = small_vit();
  c.distilled = true;
  Vit m(c, kClasses);
  check_images(m, 8);
  DeitWithTeacher teacher(c, kClasses);
  check_images(teacher, 8);
}

TEST(Vision, VitMae) {
  VitMaeConfig c;
  c.encoder = c.decoder = small_vit();
  c.decoder.layers = 1;
  for (bool normalised : {false, true}) {
    c.norm_pix_loss = normalised;
    VitMae m(c);
    randomise(m);
    check_family(m, [&](Graph& g) {
      Recording r;
      r.feeds = {{"pixels", random_tensor({kBatch, 3, 8, 8}, 4)}, {"noise", random_tensor({kBatch, 4}, 5)}};
      Var pixels = g.input("pixels", {kBatch, 3, 8, 8}, f64);
      auto hiding = m.hide(g.input("noise", {kBatch, 4}, f64, {.carries = false}));
      r.data = pixels;
      r.result = m.decode(m.vit.layernorm(m.encode(m.vit.placed(m.vit.patches(pixels)), hiding).back()), hiding);
      r.shape = {kBatch, 4, 4 * 4 * 3};
      return r;
    });
    Graph g;
    Var pixels = g.constant(random_tensor({kBatch, 3, 8, 8}, 4)), noise = g.constant(random_tensor({kBatch, 4}, 5));
    Results r = evaluate({m(pixels, noise), sum(cast(m.hide(noise).hidden, f64))});
    EXPECT_GT(r[0].item(), 0);
    EXPECT_EQ(r[1].item(), 3 * kBatch);  // of four patches one is kept
  }
}

TEST(Vision, Swin) {
  SwinConfig c;
  c.patch_size = 2, c.embed_dim = 8, c.window = 2, c.depths = {2, 1}, c.heads = {2, 4}, c.mlp_ratio = 2;
  Swin m(c, kClasses);
  check_images(m, 8);
  Graph g;
  EXPECT_THROW(m(g.input("pixels", {1, 3, 10, 10}, f64)), ShapeError);
}

TEST(Vision, ResNet) {
  for (bool bottleneck : {false, true}) {
    ResNetConfig c;
    c.embedding_size = 4, c.hidden_sizes = {8, 12}, c.depths = {1, 2}, c.bottleneck = bottleneck;
    ResNet m(c, kClasses);
    check_images(m, 16);
  }
}

TEST(Vision, ConvNext) {
  ConvNextConfig c;
  c.hidden_sizes = {6, 8}, c.depths = {1, 2}, c.patch_size = 2;
  ConvNext m(c, kClasses);
  check_images(m, 16);
}

// A file of an older version: other names, a buffer, and the classifier.
TEST(Vision, NamesOfOlderFilesAreTranslated) {
  Vit m(small_vit(), kClasses), other(small_vit(), kClasses);
  m.init(1);
  other.init(2);
  std::map<std::string, Tensor> old;
  for (const auto& [now, tensor] : m.state_dict()) {
    std::string name = now;
    auto replace = [&](const std::string& from, const std::string& to) {
      if (auto at = name.find(from); at != name.npos) name.replace(at, from.size(), to);
    };
    replace("vit.layers.", "vit.encoder.layer.");
    replace("attention.q_proj", "attention.attention.query");
    replace("attention.k_proj", "attention.attention.key");
    replace("attention.v_proj", "attention.attention.value");
    replace("attention.o_proj", "attention.output.dense");
    replace("mlp.fc1", "intermediate.dense");
    replace("mlp.fc2", "output.dense");
    old[name] = tensor;
  }
  old["vit.embeddings.position_ids"] = Tensor::zeros({1, 5}, i64);
  load_huggingface(other, old);
  EXPECT_TRUE(bitwise_equal(m.flat(), other.flat()));
  old["vit.extra"] = Tensor::zeros({1});
  EXPECT_THROW(load_huggingface(other, old), ValueError);
}

}  // namespace
