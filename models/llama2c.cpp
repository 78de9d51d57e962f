#include "whence/models/llama2c.h"

#include <array>
#include <cstring>

#include "whence/nn/io/file.h"

namespace whence::models {

namespace {

// A file's bytes from front to back.
class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path), bytes_(read_bytes(path)) {}
  const std::byte* take(int64_t n) {
    if (n < 0 || n > bytes_.numel() - at_)
      throw IoError(path_ + ": ends within what its header promises (byte " + std::to_string(bytes_.numel()) + ")");
    const auto* from = reinterpret_cast<const std::byte*>(bytes_.data<uint8_t>()) + at_;
    at_ += n;
    return from;
  }
  template <class T> T one() {
    T value;
    std::memcpy(&value, take(sizeof(T)), sizeof(T));
    return value;
  }
  Tensor floats(const Shape& shape) {
    Tensor t = Tensor::empty(shape);
    std::memcpy(t.data<float>(), take(t.numel() * int64_t(sizeof(float))), t.nbytes());
    return t;
  }
  void end() const {
    if (at_ != bytes_.numel())
      throw IoError(path_ + ": has " + std::to_string(bytes_.numel() - at_) + " bytes more than its header promises");
  }
  [[noreturn]] void refuse(const std::string& why) const { throw IoError(path_ + ": " + why); }

 private:
  std::string path_;
  Tensor bytes_;
  int64_t at_ = 0;
};

// Rows (2 i, 2 i + 1) of each head become rows (i, i + D / 2): w [heads D, C].
Tensor halves_of_pairs(const Tensor& w, int64_t heads) {
  const int64_t D = w.size(0) / heads, C = w.size(1);
  return w.reshaped({heads, D / 2, 2, C}).permuted({0, 2, 1, 3}).contiguous_copy().reshaped({heads * D, C});
}

LlamaConfig read_header(Reader& file) {
  std::array<int64_t, 7> n;
  for (int64_t& value : n) value = file.one<int32_t>();
  const auto [hidden, wide, layers, heads, kv_heads, vocabulary, context] = n;
  if (hidden < 1 || wide < 1 || layers < 1 || heads < 1 || kv_heads < 1 || vocabulary == 0 || context < 1 ||
      hidden % heads || hidden / heads % 2 || heads % kv_heads)
    file.refuse("its first 28 bytes are no header of llama2.c");
  LlamaConfig c;
  c.hidden_size = hidden;
  c.intermediate_size = wide;
  c.layers = layers;
  c.heads = heads;
  c.kv_heads = kv_heads;
  c.vocab_size = std::abs(vocabulary);
  c.tied = vocabulary > 0;
  c.max_positions = context;
  c.rms_norm_eps = 1e-5;
  return c;
}

}  // namespace

std::unique_ptr<Llama> load_llama2c(const std::string& path) {
  Reader file(path);
  const LlamaConfig c = read_header(file);
  const int64_t C = c.hidden_size, D = c.key_size(), G = c.kv_heads * D, F = c.intermediate_size;
  std::map<std::string, Tensor> state;
  auto per_layer = [&](const char* name, const Shape& shape, int64_t turning_heads = 0) {
    for (int64_t i = 0; i < c.layers; ++i) {
      Tensor t = file.floats(shape);
      state["model.layers." + std::to_string(i) + "." + name + ".weight"] =
          turning_heads ? halves_of_pairs(t, turning_heads) : t;
    }
  };
  state["model.embed_tokens.weight"] = file.floats({c.vocab_size, C});
  per_layer("input_layernorm", {C});
  per_layer("self_attn.q_proj", {C, C}, c.heads);
  per_layer("self_attn.k_proj", {G, C}, c.kv_heads);
  per_layer("self_attn.v_proj", {G, C});
  per_layer("self_attn.o_proj", {C, C});
  per_layer("post_attention_layernorm", {C});
  per_layer("mlp.gate_proj", {F, C});
  per_layer("mlp.down_proj", {C, F});
  per_layer("mlp.up_proj", {F, C});
  state["model.norm.weight"] = file.floats({C});
  file.take(c.max_positions * D * int64_t(sizeof(float)));  // cosines and sines, which are computed here
  if (!c.tied) state["lm_head.weight"] = file.floats({c.vocab_size, C});
  file.end();
  auto model = std::make_unique<Llama>(c);
  model->load_state_dict(state);
  return model;
}

}  // namespace whence::models
