// Models of DNA barcodes: BarcodeBERT (Arias et al. 2023), BarcodeMAE (Safari et al. 2025), and a classifier on either.
#pragma once
#include <span>

#include "whence/models/bert.h"

namespace whence::models {

/// Tokens are k-mers: 0 [MASK], 1 [UNK], 2 .. 4^k + 1 (KmerTokenizer).
struct BarcodeConfig {
  int64_t k = 4, max_tokens = 165;
  int64_t hidden = 128, layers = 4, heads = 4;
  int64_t decoder_hidden = 128, decoder_layers = 2, decoder_heads = 4;  ///< BarcodeMAE
  double dropout = 0.1;
  int64_t classes() const { return int64_t(1) << (2 * k); }
  int64_t vocab() const { return classes() + 2; }
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
  Tensor ids;        ///< [B, P] i32, padded with 1 [UNK]
  Tensor positions;  ///< [B, P] i32, original places
  Tensor mask;       ///< [B, P] u8, 0 on padding
  Tensor restore;    ///< [B * T] i32: row of each place in (B * (P + 1)); the last row of a sample is the mask vector
  Tensor labels;     ///< [B, T] i32: class where masked, -100 elsewhere
};

/// Hides the places marked in `hidden` [B * T]. P is the largest number of visible tokens, or `width` when given (equal
/// widths share one plan). ids [B, T] i32, seen [B, T] u8 (attention mask).
/// label_visible: known visible tokens are predicted too (BarcodeBERT's loss), so that the encoder keeps what each
/// token says. \throws ShapeError when a row has more visible tokens than `width`.
PackedTokens pack(const Tensor& ids, const Tensor& seen, std::span<const uint8_t> hidden, int64_t width = 0,
                  bool label_visible = false);

/// Encoder on visible tokens only, decoder on all places; the loss counts masked places. Only the encoder is kept.
struct BarcodeMae : nn::Module {
  explicit BarcodeMae(const BarcodeConfig& config);
  /// Inputs as in PackedTokens, decoder_mask [B, T] u8.
  Var loss(Var ids, Var positions, Var mask, Var restore, Var labels, Var decoder_mask) const;
  BarcodeConfig config;
  BertModel encoder;
  nn::Linear bridge;  ///< encoder width -> decoder width
  BertModel decoder;
  nn::Linear predictor;
};

/// Encoder, mean over known tokens, batch norm (He et al. 2022, MAE: means over many tokens share a large common part),
/// linear head.
struct BarcodeClassifier : nn::Module {
  BarcodeClassifier(const BarcodeConfig& config, int64_t classes);
  Var embed(Var ids, Var mask) const;       ///< [B, hidden]
  Var classify(Var embedded) const;         ///< [B, hidden] -> [B, classes]
  Var operator()(Var ids, Var mask) const;  ///< [B, classes]
  BarcodeConfig config;
  BertModel encoder;
  nn::BatchNorm norm;
  nn::Linear head;
};

/// Copies encoder.* from a pretrained model's state into m, leaving the rest as it is.
void load_encoder(nn::Module& m, const std::map<std::string, Tensor>& state);

}  // namespace whence::models
