// The format: numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#include "whence/nn/io/npy.h"

#include <algorithm>
#include <bit>
#include <cctype>
#include <cstring>
#include <optional>

#include "whence/nn/io/atomic_file.h"
#include "whence/nn/io/file.h"
#include "whence/nn/io/zip.h"

namespace whence {
namespace {

static_assert(std::endian::native == std::endian::little, "values are copied as they are");
constexpr std::string_view kMagic("\x93NUMPY", 6);

struct Header {
  std::string descr;
  bool fortran_order = false;
  std::vector<int64_t> shape;
};

// The header is a Python dict of three literals: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
class Parser {
 public:
  Parser(std::string_view text, const std::string& file) : text_(text), file_(file) {}

  Header header() {
    std::optional<std::string> descr;
    std::optional<bool> fortran_order;
    std::optional<std::vector<int64_t>> shape;
    expect('{');
    while (!take('}')) {
      std::string key = quoted();
      expect(':');
      if (key == "descr" && !descr) descr = dtype();
      else if (key == "fortran_order" && !fortran_order) fortran_order = truth();
      else if (key == "shape" && !shape) shape = extents();
      else refuse("the key '" + key + "' is unknown or there twice");
      if (!take(',') && peek() != '}') refuse("a comma is wanted at byte " + std::to_string(at_));
    }
    blanks();
    if (at_ != text_.size()) refuse("something follows the dict");
    if (!descr || !fortran_order || !shape) refuse("descr, fortran_order and shape are not all there");
    return {*descr, *fortran_order, *shape};
  }

 private:
  [[noreturn]] void refuse(const std::string& why) const {
    throw IoError(file_ + ": not a valid npy file: the header: " + why);
  }
  void blanks() {
    while (at_ < text_.size() && std::isspace(uint8_t(text_[at_]))) ++at_;
  }
  char peek() {
    blanks();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char c) {
    if (peek() != c || at_ == text_.size()) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) refuse(std::string("'") + c + "' is wanted at byte " + std::to_string(at_));
  }
  std::string quoted() {
    char quote = peek();
    if (quote != '\'' && quote != '"') refuse("a text is wanted at byte " + std::to_string(at_));
    size_t end = text_.find(quote, at_ + 1);
    if (end == text_.npos || end - at_ > 64) refuse("a text that does not end");
    std::string out(text_.substr(at_ + 1, end - at_ - 1));
    for (char& c : out) c = uint8_t(c) < 0x20 || uint8_t(c) >= 0x7f ? '?' : c;
    at_ = end + 1;
    return out;
  }
  std::string dtype() {
    if (peek() == '[') throw DTypeError(file_ + ": arrays of records (a dtype with fields) are not read");
    return quoted();
  }
  bool truth() {
    blanks();
    for (auto [word, value] : {std::pair<std::string_view, bool>{"True", true}, {"False", false}})
      if (text_.substr(at_).starts_with(word)) {
        at_ += word.size();
        return value;
      }
    refuse("fortran_order is neither True nor False");
  }
  std::vector<int64_t> extents() {
    std::vector<int64_t> out;
    expect('(');
    while (!take(')')) {
      if (!std::isdigit(uint8_t(peek())))
        refuse("shape: a whole number, not negative, is wanted at byte " + std::to_string(at_));
      int64_t n = 0;
      for (; at_ < text_.size() && std::isdigit(uint8_t(text_[at_])); ++at_)
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, text_[at_] - '0', &n))
          refuse("shape: an extent is too large");
      take('L');  // Python 2 wrote it
      out.push_back(n);
      if (out.size() > size_t(Shape::kMaxRank))
        refuse("more than " + std::to_string(Shape::kMaxRank) + " dimensions are not supported");
      if (!take(',') && peek() != ')') refuse("shape: a comma is wanted at byte " + std::to_string(at_));
    }
    return out;
  }

  std::string_view text_;
  const std::string& file_;
  size_t at_ = 0;
};

// One element from file bytes in either order.
template <class T> T element(const std::byte* p, bool swapped) {
  std::byte b[sizeof(T)];
  if (swapped) std::reverse_copy(p, p + sizeof(T), b);
  else std::memcpy(b, p, sizeof(T));
  return std::bit_cast<T>(b);
}

template <class From, class To> void decode(const std::byte* from, const Tensor& to, bool swapped) {
  To* out = static_cast<To*>(to.raw());
  for (int64_t i = 0, n = to.numel(); i < n; ++i) out[i] = To(element<From>(from + size_t(i) * sizeof(From), swapped));
}

struct FileDType {
  std::string_view code;
  DType as;
  size_t bytes;  // in the file
  void (*decode)(const std::byte*, const Tensor&, bool);
};
constexpr FileDType kDTypes[] = {
    {"f2", f16, 2, decode<uint16_t, uint16_t>},   {"f4", f32, 4, decode<uint32_t, uint32_t>},
    {"f8", f64, 8, decode<uint64_t, uint64_t>},   {"i1", i32, 1, decode<int8_t, int32_t>},
    {"i2", i32, 2, decode<int16_t, int32_t>},     {"i4", i32, 4, decode<int32_t, int32_t>},
    {"i8", i64, 8, decode<int64_t, int64_t>},     {"u1", u8, 1, decode<uint8_t, uint8_t>},
    {"u2", i32, 2, decode<uint16_t, int32_t>},    {"u4", i64, 4, decode<uint32_t, int64_t>},
    {"b1", boolean, 1, decode<uint8_t, uint8_t>},
};

const FileDType& dtype_of_descr(const std::string& descr, const std::string& file) {
  std::string_view code = descr;
  if (!code.empty() && std::string_view("<>|=").find(code[0]) != code.npos) code.remove_prefix(1);
  if (code == "?") code = "b1";
  for (const FileDType& d : kDTypes)
    if (code == d.code) return d;
  throw DTypeError(file + ": the dtype '" + descr +
                   "' has no equal here; f2, f4, f8, i1 to i8, u1 to u4 and b1 are read");
}

std::string_view code_of(DType t) {
  if (t == bf16) t = f32;
  for (auto d = std::end(kDTypes); d-- != std::begin(kDTypes);)  // the exact one: i4 for i32, i8 for i64
    if (d->as == t && d->bytes == size_of(t)) return d->code;
  return "?";
}

std::string header_of(const Tensor& tensor) {
  std::string dict = "{'descr': '";
  dict += size_of(tensor.dtype()) == 1 ? '|' : '<';
  dict += code_of(tensor.dtype());
  dict += "', 'fortran_order': False, 'shape': (";
  for (int64_t extent : tensor.shape()) dict += std::to_string(extent) + ",";
  dict += "), }";
  size_t fixed = kMagic.size() + 4, whole = (fixed + dict.size() + 1 + 63) / 64 * 64;  // values begin at 64 bytes
  dict.append(whole - fixed - dict.size() - 1, ' ');
  dict += '\n';
  std::string out(kMagic);
  out += std::string("\1\0", 2);
  out += char(dict.size() & 0xff);
  out += char(dict.size() >> 8);
  return out + dict;
}

// What the file holds of a tensor: on the CPU, row-major, of a dtype that NumPy has.
Tensor writable(const Tensor& tensor, const std::string& name) {
  if (!tensor.defined()) throw ValueError("save_npy: " + name + " is undefined");
  Tensor t = tensor.to(Device{});
  return (t.dtype() == bf16 ? t.to(f32) : t).contiguous_tensor();
}

std::span<const std::byte> bytes_of(const std::string& s) {
  return {reinterpret_cast<const std::byte*>(s.data()), s.size()};
}
std::span<const std::byte> bytes_of(const Tensor& t) { return {static_cast<const std::byte*>(t.raw()), t.nbytes()}; }

template <class Write> void write_npz(const TensorMap& tensors, bool compress, Write&& write) {
  ZipWriter zip(write);
  for (const auto& [name, tensor] : tensors) {
    Tensor t = writable(tensor, "'" + name + "'");
    std::string header = header_of(t);
    std::span<const std::byte> parts[] = {bytes_of(header), bytes_of(t)};
    zip.add(name + ".npy", parts, compress);
  }
  zip.finish();
}

}  // namespace

Tensor parse_npy(std::span<const std::byte> bytes, const std::string& name) {
  auto refuse = [&](const std::string& why) { throw IoError(name + ": not a valid npy file: " + why); };
  std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.size() < kMagic.size() + 4 || !text.starts_with(kMagic)) refuse("it does not begin with \\x93NUMPY");
  int version = uint8_t(text[6]);
  if (version < 1 || version > 3) refuse("it has version " + std::to_string(version) + "; 1 to 3 are read");
  size_t begin = version == 1 ? 10 : 12, length = element<uint16_t>(bytes.data() + 8, false);
  if (text.size() < begin) refuse("it is cut off within the header");
  if (version > 1) length = element<uint32_t>(bytes.data() + 8, false);
  if (length > text.size() - begin)
    refuse("a header of " + std::to_string(length) + " bytes is announced, " + std::to_string(text.size() - begin) +
           " follow");
  Header header = Parser(text.substr(begin, length), name).header();
  const FileDType& type = dtype_of_descr(header.descr, name);
  bytes = bytes.subspan(begin + length);

  if (header.fortran_order) std::reverse(header.shape.begin(), header.shape.end());
  Shape shape;
  for (int64_t extent : header.shape) shape.push_back(extent);
  try {
    check_extents(shape, sizeof(double));
  } catch (const ShapeError& e) {
    refuse(e.what());
  }
  size_t need = size_t(shape.numel()) * type.bytes;
  if (bytes.size() != need)
    refuse("the shape " + shape.str() + " of '" + header.descr + "' takes " + std::to_string(need) + " bytes, " +
           std::to_string(bytes.size()) + " are there");
  if (type.as == boolean)
    for (size_t i = 0; i < need; ++i)
      if (uint8_t(bytes[i]) > 1)
        refuse("byte " + std::to_string(i) + " of its bools is " + std::to_string(int(bytes[i])));
  Tensor out = Tensor::empty(shape, type.as);
  type.decode(bytes.data(), out, header.descr[0] == '>');
  if (!header.fortran_order || out.rank() < 2) return out;
  Shape axes;
  for (int i = out.rank(); i-- > 0;) axes.push_back(i);
  return out.permuted(axes).contiguous_tensor();
}

Tensor load_npy(const std::string& path) { return parse_npy(MappedFile::open(path)->bytes(), path); }

void save_npy(const std::string& path, const Tensor& tensor) {
  Tensor t = writable(tensor, "the tensor");
  AtomicFile out(path);
  out.write(header_of(t));
  out.write(t.raw(), t.nbytes());
  out.commit();
}

std::vector<std::byte> npy_bytes(const Tensor& tensor) {
  Tensor t = writable(tensor, "the tensor");
  std::string header = header_of(t);
  std::vector<std::byte> out(bytes_of(header).begin(), bytes_of(header).end());
  out.insert(out.end(), bytes_of(t).begin(), bytes_of(t).end());
  return out;
}

TensorMap parse_npz(std::span<const std::byte> bytes, const std::string& name) {
  TensorMap out;
  for (const ZipMember& member : zip_members(bytes, name)) {
    std::string where = name + ": " + member.name;
    if (!member.name.ends_with(".npy")) throw IoError(where + ": a member of an npz file that is no .npy");
    std::string key = member.name.substr(0, member.name.size() - 4);
    if (out.count(key)) throw IoError(where + ": the member is there twice");
    out.emplace(key, parse_npy(unzipped(member, name), where));
  }
  return out;
}

TensorMap load_npz(const std::string& path) { return parse_npz(MappedFile::open(path)->bytes(), path); }

void save_npz(const std::string& path, const TensorMap& tensors, bool compress) {
  AtomicFile out(path);
  write_npz(tensors, compress, [&](const void* data, size_t n) { out.write(data, n); });
  out.commit();
}

std::vector<std::byte> npz_bytes(const TensorMap& tensors, bool compress) {
  std::vector<std::byte> out;
  write_npz(tensors, compress, [&](const void* data, size_t n) {
    out.insert(out.end(), static_cast<const std::byte*>(data), static_cast<const std::byte*>(data) + n);
  });
  return out;
}

}  // namespace whence
