// Models of DNA barcodes: BarcodeBERT (Arias et al. 2023), BarcodeMAE (Safari et al. 2025), and a classifier on either.
#pragma once
#include <span>

#include "whence/models/bert.h"

namespace whence::models {

/// Tokens are k-mers: 0 [MASK], 1 [UNK], 2 .. 4^k + 1 (KmerTokenizer). Two options go beyond the published models. Ids
/// [B, T, W] instead of [B, T] make tokens of overlapping words: the vectors of the W words that begin in a token are
/// summed, so that what is said does not hang on where the first token begins. With `spectrum`, the square roots of the
/// frequencies of all words of so many letters (kmer_spectra) stand beside the encoder: BarcodeMae predicts them from
/// the mean of what it sees, and BarcodeClassifier reads them in a wide linear part beside the deep one (Cheng et al.
/// 2016, arXiv 1606.07792).
struct BarcodeConfig {
  int64_t k = 4, max_tokens = 165;
  int64_t hidden = 128, layers = 4, heads = 4;
  int64_t decoder_hidden = 128, decoder_layers = 2, decoder_heads = 4;  ///< BarcodeMAE
  double dropout = 0.1;
  bool overlapping = false;  ///< k words per token: for who makes the ids; models see it by their shape
  int64_t spectrum = 0;      ///< letters of the words in a sequence's spectrum; 0: models know no spectrum
  int64_t memory = 0;        ///< training sequences whose spectra a classifier remembers
  double token_weight = 0.1, spectrum_weight = 5;  ///< of BarcodeMae's two losses, where there are two
  int64_t classes() const { return int64_t(1) << (2 * k); }
  int64_t vocab() const { return classes() + 2; }
  int64_t spectrum_words() const { return int64_t(1) << (2 * spectrum); }
  BertConfig encoder() const;
  BertConfig decoder() const;
};

/// Predicts the k-mer of every token from a half-masked sequence. The loss counts all known tokens, masked and seen.
struct BarcodeBert : nn::Module {
  explicit BarcodeBert(const BarcodeConfig& config);
  /// ids [B, T] with 0 where masked; labels [B, T]: class (id - 2), or -100.
  Var loss(Var ids, Var labels, const BertInputs& in) const;
  BarcodeConfig config;
  BertModel encoder;
  nn::Linear predictor;
};

/// What a masked autoencoder reads: visible tokens packed to the left, with their original positions.
struct PackedTokens {
  Tensor ids;        ///< [B, P] or [B, P, W] i32, padded with 1 [UNK]
  Tensor positions;  ///< [B, P] i32, original places
  Tensor mask;       ///< [B, P] u8, 0 on padding
  Tensor restore;    ///< [B * T] i32: row of each place in (B * (P + 1)); the last row of a sample is the mask vector
  Tensor labels;     ///< [B, T] i32: class where masked, -100 elsewhere
};

/// Hides the places marked in `hidden` [B * T]. P is the largest number of visible tokens, or `width` when given (equal
/// widths share one plan). ids [B, T] i32, seen [B, T] u8 (attention mask). Overlapping words, ids [B, T, W]: the first
/// of a token is its label, and visible words that reach into a hidden token become [UNK]. label_visible: known visible
/// tokens are predicted too (BarcodeBERT's loss), so that the encoder keeps what each token says. \throws ShapeError
/// when a row has more visible tokens than `width`.
PackedTokens pack(const Tensor& ids, const Tensor& seen, std::span<const uint8_t> hidden, int64_t width = 0,
                  bool label_visible = false);

/// Encoder on visible tokens only, decoder on all places; the loss counts masked places. Only the encoder is kept.
struct BarcodeMae : nn::Module {
  explicit BarcodeMae(const BarcodeConfig& config);
  /// Inputs as in PackedTokens, decoder_mask [B, T] u8. spectrum [B, 4^spectrum] adds the mean squared error of its
  /// prediction, weighted.
  Var loss(Var ids, Var positions, Var mask, Var restore, Var labels, Var decoder_mask, Var spectrum = {}) const;
  BarcodeConfig config;
  BertModel encoder;
  nn::Linear bridge;  ///< encoder width -> decoder width
  BertModel decoder;
  nn::Linear predictor;
  std::optional<nn::Linear> spectrum;  ///< encoder width -> spectrum
};

/// Encoder, mean over known tokens, batch norm (He et al. 2022, MAE: means over many tokens share a large common part),
/// linear head; with a spectrum, plus a linear map of it, less its mean over the training sequences; with a memory of
/// those, outside training, plus 20 times the largest cosine with a member of the class (Khandelwal et al. 2020,
/// arXiv 1911.00172, add neighbours to a trained model in this way).
struct BarcodeClassifier : nn::Module {
  BarcodeClassifier(const BarcodeConfig& config, int64_t classes);
  Var words(Var ids) const;                        ///< ids [B, T] or [B, T, W] -> their vectors, [.., hidden]
  Var embed(Var words, Var mask) const;            ///< mask [B, T] -> [B, hidden]
  Var classify(Var embedded, Var spectrum) const;  ///< [B, hidden], [B, 4^spectrum] -> [B, classes]
  Var operator()(Var ids, Var mask, Var spectrum = {}) const;  ///< [B, classes]
  BarcodeConfig config;
  BertModel encoder;
  nn::BatchNorm norm;
  nn::Linear head;
  std::optional<nn::Linear> wide;          ///< spectrum -> classes; starts at zero
  nn::Parameter* spectrum_mean = nullptr;  ///< buffer [4^spectrum], for who trains to set
  nn::Parameter* memory = nullptr;         ///< buffer [memory, 4^spectrum], rows of length one
  nn::Parameter* memory_class = nullptr;   ///< buffer [memory]
  /// Sets the three from the training sequences: spectra [n, 4^spectrum] and the class of each, n = config.memory or
  /// there is no memory. \throws ShapeError
  void remember(const Tensor& spectra, std::span<const int64_t> classes);

 private:
  Var nearest(Var centred) const;  // (B, 4^spectrum) -> (B, classes): the largest cosine
};

/// Copies encoder.* from a pretrained model's state into m, leaving the rest as it is.
void load_encoder(nn::Module& m, const std::map<std::string, Tensor>& state);

}  // namespace whence::models
