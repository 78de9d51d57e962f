// Golden files: each is read, the computation it describes is built from its metadata alone, and the stored tensors
// are compared. Nothing here knows a particular file.
#pragma once
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "whence/nn/io/safetensors.h"
#include "whence/whence.h"

namespace whence::goldens {

using Json = nlohmann::json;

/// Thrown by a builder that needs an operation the library has not.
struct OpsMissing : Error {
  using Error::Error;
};

struct File {
  explicit File(const std::string& path);
  std::string path, name;
  Safetensors data;
  const std::string& meta(const std::string& key) const;  ///< "" when absent
  Json json(const std::string& key) const;
  bool has(const std::string& key) const { return data.contains(key); }
  /// A tensor; floats come in `dtype`.
  Tensor tensor(const std::string& key, DType dtype) const;
  uint64_t nudge = 0;  ///< not 0: floats come rounded to f32 at random, each to within half a unit, as this seed says
};

/// The worst comparison of a case so far.
class Check {
 public:
  /// max |got - want| <= tolerance * scale, where scale defaults to max |want| (1 when that is zero).
  void compare(const std::string& key, const Tensor& got, const Tensor& want, double tolerance, double scale = -1);
  bool passed() const { return compared > 0 && worst_ratio <= 1; }
  double worst_ratio = 0, worst_error = 0, worst_tolerance = 0;
  std::string worst_key;
  int compared = 0;
  std::string failures;  ///< the first few keys that failed
  int failed = 0;
};

enum class Outcome { pass, fail, missing };
struct Report {
  Outcome outcome = Outcome::pass;
  std::string line;
};

/// Runs `body` for one dtype and turns what happens into a line.
Report run_case(const File& file, DType dtype, const std::function<void(Check&)>& body);

/// Of a float32 run: `base`, or ten times what the reference's own float32 run is off by, where that is more.
double f32_tolerance(const File& file, const std::string& key, double base);

/// One entry point per kind of file.
void run_lrp(const File& file, DType dtype, Check& check);         ///< lrp/*
void run_operator(const File& file, DType dtype, Check& check);    ///< core op/*, ref/*
void run_model_file(const File& file, DType dtype, Check& check);  ///< language models of core, models of hf_*
void run_trajectory(const File& file, DType dtype, Check& check);  ///< train/*
void run_optimiser(const File& file, DType dtype, Check& check);   ///< core optim/*

}  // namespace whence::goldens
