#include "whence/nn/io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>

#include "whence/nn/io/atomic_file.h"
#include "whence/nn/io/file.h"

namespace whence {
namespace {

static_assert(std::endian::native == std::endian::little, "the file format is little-endian");
using Json = nlohmann::json;

constexpr size_t kMaxHeader = 100'000'000;  // as in the reference implementation
constexpr size_t kDataAlignment = 64;

struct FileDType {
  const char* name;
  size_t bits;
  bool supported;
  DType as;  // what it becomes here
};
constexpr FileDType kDTypes[] = {
    {"F64", 64, true, f64},
    {"F32", 32, true, f32},
    {"BF16", 16, true, bf16},
    {"F16", 16, true, f16},
    {"I64", 64, true, i64},
    {"I32", 32, true, i32},
    {"U8", 8, true, u8},
    {"BOOL", 8, true, boolean},
    {"I8", 8, true, i32},
    {"I16", 16, true, i32},
    {"U16", 16, true, i32},
    {"U32", 32, true, i64},
    {"U64", 64, false, i64},
    {"C64", 64, false, f32},
    {"F8_E4M3", 8, false, f32},
    {"F8_E5M2", 8, false, f32},
    {"F8_E8M0", 8, false, f32},
    {"F8_E4M3FNUZ", 8, false, f32},
    {"F8_E5M2FNUZ", 8, false, f32},
    {"F6_E2M3", 6, false, f32},
    {"F6_E3M2", 6, false, f32},
    {"F4", 4, false, f32},
};

const FileDType* find_dtype(std::string_view name) {
  for (const auto& d : kDTypes)
    if (name == d.name) return &d;
  return nullptr;
}

const char* file_name_of(DType t) {
  for (const auto& d : kDTypes)
    if (d.as == t) return d.name;  // the first one is the exact one
  return "?";
}

// What a message says of a name from an untrusted file: short, printable.
std::string in_quotes(std::string_view s) {
  std::string out = "'";
  for (char c : s.substr(0, 80)) out += uint8_t(c) < 0x20 || uint8_t(c) == 0x7f ? '?' : c;
  return out + (s.size() > 80 ? "...'" : "'");
}

struct Reject {
  const std::string& file;
  [[noreturn]] void operator()(const std::string& why) const {
    throw IoError(file + ": not a valid safetensors file: " + why);
  }
};

template <class From, class To> Tensor widened(const std::byte* p, const Shape& shape, DType to) {
  Tensor t = Tensor::empty(shape, to);
  To* out = t.data<To>();
  for (int64_t i = 0, n = shape.numel(); i < n; ++i) {
    From v;
    std::memcpy(&v, p + size_t(i) * sizeof(From), sizeof v);
    out[i] = To(v);
  }
  return t;
}

}  // namespace

Safetensors Safetensors::open(const std::string& path) {
  auto file = MappedFile::open(path);
  return parse(file->bytes(), path, file);
}

Safetensors Safetensors::read(const std::string& path) {
  Tensor memory = read_bytes(path);
  return parse({static_cast<std::byte*>(memory.raw()), memory.nbytes()}, path, memory.buffer());
}

Safetensors Safetensors::parse(std::span<const std::byte> bytes, std::string name) {
  // Without `keep` every tensor is a copy, so nothing writes through the span.
  return parse(std::span<std::byte>(const_cast<std::byte*>(bytes.data()), bytes.size()), std::move(name), nullptr);
}

Safetensors Safetensors::parse(std::span<std::byte> bytes, std::string name, std::shared_ptr<const void> keep) {
  Safetensors s;
  s.name_ = std::move(name);
  s.keep_ = std::move(keep);
  s.read_header(bytes);
  if (s.keep_) s.buffer_ = Buffer::borrow(s.data_.data(), s.data_.size(), s.keep_);
  return s;
}

void Safetensors::read_header(std::span<std::byte> bytes) {
  Reject reject{name_};
  if (bytes.size() < 8) reject("it has " + std::to_string(bytes.size()) + " bytes, the header length alone takes 8");
  uint64_t length;
  std::memcpy(&length, bytes.data(), 8);
  if (length > kMaxHeader)
    reject("a header of " + std::to_string(length) + " bytes is announced, more than " + std::to_string(kMaxHeader) +
           " are not read");
  if (length > bytes.size() - 8)
    reject("the header is cut off: " + std::to_string(length) + " bytes announced, " +
           std::to_string(bytes.size() - 8) + " follow");
  const char* text = reinterpret_cast<const char*>(bytes.data()) + 8;
  data_ = bytes.subspan(8 + size_t(length));
  if (length == 0 || text[0] != '{') reject("the header must begin with '{' at byte 8");
  if (const void* nul = std::memchr(text, 0, length))  // where the parser would stop
    reject("the header is no JSON: byte " + std::to_string(static_cast<const char*>(nul) - text + 8) + " is a NUL");

  // The parser keeps the last of two equal keys, so repeats have to be caught on the way; deep nesting is no
  // header.
  std::vector<std::set<std::string>> open_objects;
  auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth > 8) reject("the header is nested too deeply");
    if (event == Json::parse_event_t::object_start) open_objects.emplace_back();
    else if (event == Json::parse_event_t::object_end) open_objects.pop_back();
    else if (event == Json::parse_event_t::key &&
             !open_objects.back().insert(value.get_ref<const std::string&>()).second)
      reject("the name " + in_quotes(value.get_ref<const std::string&>()) + " occurs twice in the header");
    return true;
  };
  Json header;
  try {
    header = Json::parse(text, text + length, watch);
  } catch (const Json::exception& e) {
    reject(std::string("the header is no JSON: ") + e.what());
  }
  if (!header.is_object()) reject("the header is no JSON object");

  for (auto& [key, value] : header.items()) {
    if (key == "__metadata__") {
      if (value.is_null()) continue;  // none, to the reference implementation too
      if (!value.is_object()) reject("__metadata__ is no object");
      for (auto& [k, v] : value.items()) {
        if (!v.is_string()) reject("__metadata__ " + in_quotes(k) + " is no string");
        metadata_[k] = v.get<std::string>();
      }
      continue;
    }
    std::string who = "tensor " + in_quotes(key) + ": ";
    if (!value.is_object()) reject(who + "no object with dtype, shape and data_offsets");
    auto dtype = value.find("dtype"), shape = value.find("shape"), offsets = value.find("data_offsets");
    if (dtype == value.end() || !dtype->is_string()) reject(who + "dtype is absent or no string");
    if (shape == value.end() || !shape->is_array()) reject(who + "shape is absent or no list");
    if (offsets == value.end() || !offsets->is_array() || offsets->size() != 2 || !(*offsets)[0].is_number_unsigned() ||
        !(*offsets)[1].is_number_unsigned())
      reject(who + "data_offsets must be two whole numbers, not negative");
    Entry e{key, dtype->get<std::string>(), {}, 0, 0};
    const FileDType* type = find_dtype(e.dtype);
    if (!type) reject(who + "unknown dtype " + in_quotes(e.dtype));
    if (shape->size() > size_t(Shape::kMaxRank))
      reject(who + std::to_string(shape->size()) + " dimensions, at most " + std::to_string(Shape::kMaxRank) +
             " are supported");
    bool none = false;
    int64_t need =
        int64_t(type->bits);  // overflow is checked over the extents that are not zero, so order does not matter
    for (const auto& d : *shape) {
      if (!d.is_number_unsigned())
        reject(who + "the extent " + in_quotes(d.dump(-1, ' ', false, Json::error_handler_t::replace)) +
               " is no whole number, or negative");
      uint64_t n = d.get<uint64_t>();
      if (n > uint64_t(INT64_MAX) || (n && __builtin_mul_overflow(need, int64_t(n), &need)))
        reject(who + "the extents overflow");
      none |= n == 0;
      e.shape.push_back(int64_t(n));
    }
    if (none) {  // extents beside the 0 may be too large all the same
      need = 0;
      try {
        check_extents(e.shape, sizeof(double));
      } catch (const ShapeError& error) {
        reject(who + error.what());
      }
    }
    if (need % 8) reject(who + e.dtype + e.shape.str() + " ends inside a byte");
    need /= 8;
    uint64_t begin = (*offsets)[0].get<uint64_t>(), end = (*offsets)[1].get<uint64_t>();
    if (begin > end)
      reject(who + "its data end at " + std::to_string(end) + " before they begin at " + std::to_string(begin));
    if (end > data_.size())
      reject(who + "its data end at byte " + std::to_string(end) + " of the data section, which has " +
             std::to_string(data_.size()));
    if (end - begin != uint64_t(need))
      reject(who + e.dtype + e.shape.str() + " takes " + std::to_string(need) + " bytes, data_offsets give " +
             std::to_string(end - begin));
    e.begin = size_t(begin);
    e.end = size_t(end);
    entries_.push_back(std::move(e));
  }

  std::stable_sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  size_t at = 0;
  for (size_t i = 0; i < entries_.size(); ++i) {
    const Entry& e = entries_[i];
    if (e.begin < at)
      reject("tensors " + in_quotes(entries_[i - 1].name) + " and " + in_quotes(e.name) + " overlap at byte " +
             std::to_string(e.begin) + " of the data section");
    if (e.begin > at)
      reject("bytes " + std::to_string(at) + " to " + std::to_string(e.begin) +
             " of the data section belong to no tensor (before " + in_quotes(e.name) + ")");
    at = e.end;
    index_[e.name] = i;
  }
  if (at != data_.size()) reject("the last " + std::to_string(data_.size() - at) + " bytes belong to no tensor");
}

const Safetensors::Entry& Safetensors::entry(const std::string& name) const {
  auto it = index_.find(name);
  if (it != index_.end()) return entries_[it->second];
  std::string near;
  std::string tail = name.substr(name.rfind('.') + 1);
  int shown = 0;
  for (const auto& e : entries_)
    if (e.name.ends_with(tail) && shown < 5) near += (shown++ ? ", '" : "'") + e.name + "'";
  throw IoError(name_ + ": holds no tensor '" + name + "' among its " + std::to_string(entries_.size()) +
                (near.empty() ? "" : "; similar: " + near));
}

Tensor Safetensors::tensor(const std::string& name) const {
  const Entry& e = entry(name);
  const FileDType& type = *find_dtype(e.dtype);
  if (!type.supported)
    throw DTypeError(name_ + ": tensor '" + name + "' is stored as " + e.dtype + ", which has no equal here");
  const std::byte* p = data_.data() + e.begin;
  if (e.dtype == "I8") return widened<int8_t, int32_t>(p, e.shape, i32);
  if (e.dtype == "I16") return widened<int16_t, int32_t>(p, e.shape, i32);
  if (e.dtype == "U16") return widened<uint16_t, int32_t>(p, e.shape, i32);
  if (e.dtype == "U32") return widened<uint32_t, int64_t>(p, e.shape, i64);
  if (type.as == boolean)
    for (size_t i = 0; i < e.end - e.begin; ++i)
      if (uint8_t(p[i]) > 1)
        throw IoError(name_ + ": tensor '" + name + "' is BOOL, but its byte " + std::to_string(i) + " is " +
                      std::to_string(int(uint8_t(p[i]))));
  if (buffer_ && reinterpret_cast<uintptr_t>(p) % size_of(type.as) == 0)
    return Tensor::wrap(buffer_, e.begin, e.shape, type.as);
  Tensor t = Tensor::empty(e.shape, type.as);
  if (e.end > e.begin) std::memcpy(t.raw(), p, e.end - e.begin);
  return t;
}

TensorMap Safetensors::tensors() const {
  TensorMap all;
  for (const auto& e : entries_)
    if (find_dtype(e.dtype)->supported) all.emplace(e.name, tensor(e.name));
  return all;
}

std::vector<std::string> Safetensors::left_out() const {
  std::vector<std::string> names;
  for (const auto& e : entries_)
    if (!find_dtype(e.dtype)->supported) names.push_back(e.name);
  return names;
}

TensorMap load_safetensors(const std::string& path, std::vector<std::string>* left_out) {
  auto file = Safetensors::read(path);
  if (left_out) *left_out = file.left_out();
  return file.tensors();
}

// ---- Writing ----------------------------------------------------------------------------------------------------

namespace {

void emit(const TensorMap& tensors, const Metadata& metadata, const std::function<void(const void*, size_t)>& write) {
  std::vector<const TensorMap::value_type*> order;
  for (const auto& item : tensors) {
    if (item.first == "__metadata__") throw ValueError("save_safetensors: a tensor cannot be named '__metadata__'");
    if (!item.second.defined()) throw ValueError("save_safetensors: the tensor '" + item.first + "' is undefined");
    order.push_back(&item);
  }
  std::stable_sort(order.begin(), order.end(),
                   [](auto* a, auto* b) { return size_of(a->second.dtype()) > size_of(b->second.dtype()); });

  // Written by hand, in the order of the data: an ordered JSON object looks keys up one by one, which takes
  // long for many.
  std::string text = "{";
  auto add = [&](const std::string& key, const Json& value) {
    if (text.size() > 1) text += ',';
    text += Json(key).dump() + ":" + value.dump();
  };
  try {
    if (!metadata.empty()) add("__metadata__", metadata);
    size_t at = 0;
    for (auto* item : order) {
      const Tensor& t = item->second;
      add(item->first, {{"dtype", file_name_of(t.dtype())},
                        {"shape", std::vector<int64_t>(t.shape().begin(), t.shape().end())},
                        {"data_offsets", {at, at + t.nbytes()}}});
      at += t.nbytes();
    }
  } catch (const Json::exception& e) {
    throw ValueError(std::string("save_safetensors: a name or a metadata text is no UTF-8: ") + e.what());
  }
  text += '}';
  text.append((kDataAlignment - (8 + text.size()) % kDataAlignment) % kDataAlignment, ' ');
  if (text.size() > kMaxHeader)
    throw ValueError("save_safetensors: the header would take " + std::to_string(text.size()) + " bytes, at most " +
                     std::to_string(kMaxHeader) + " can be read back");
  uint64_t length = text.size();
  write(&length, 8);
  write(text.data(), text.size());
  for (auto* item : order) {
    Tensor t = item->second.to(Device{}).contiguous_tensor();
    write(t.raw(), t.nbytes());
  }
}

}  // namespace

void save_safetensors(const std::string& path, const TensorMap& tensors, const Metadata& metadata) {
  AtomicFile out(path);
  emit(tensors, metadata, [&](const void* p, size_t n) { out.write(p, n); });
  out.commit();
}

std::vector<std::byte> safetensors_bytes(const TensorMap& tensors, const Metadata& metadata) {
  std::vector<std::byte> out;
  emit(tensors, metadata, [&](const void* p, size_t n) {
    out.insert(out.end(), static_cast<const std::byte*>(p), static_cast<const std::byte*>(p) + n);
  });
  return out;
}

}  // namespace whence
