#include "tokenizer_cc/core/subwords/precompiled.h"

#include <cstring>

#include "tokenizer_cc/core/subwords/graphemes.h"
#include "tokenizer_cc/core/text/ascii.h"
#include "tokenizer_cc/core/text/utf8.h"

namespace dpsr {
namespace {

constexpr size_t kMostClusterBytes = 5;

// A unit of Darts: the label of the edge that leads to it, whether a value follows, and where its children are.
uint32_t Label(uint32_t unit) { return unit & (1u << 31 | 0xFF); }
bool HasLeaf(uint32_t unit) { return unit >> 8 & 1; }
uint32_t Value(uint32_t unit) { return unit & ((1u << 31) - 1); }
size_t Offset(uint32_t unit) { return static_cast<size_t>(unit >> 10) << ((unit & 1u << 9) >> 6); }

uint32_t Load32(const char* p) {
  uint32_t value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

}  // namespace

bool Precompiled::IsSound(std::string_view charsmap) {
  if (charsmap.size() < 4) return false;
  const uint32_t bytes = Load32(charsmap.data());
  return bytes != 0 && bytes % 4 == 0 && bytes <= charsmap.size() - 4 && IsWellFormed(charsmap.substr(4 + bytes));
}

Precompiled::Precompiled(std::string_view charsmap) {
  const uint32_t bytes = Load32(charsmap.data());
  units_ = charsmap.substr(4, bytes);
  strings_ = charsmap.substr(4 + bytes);
  for (uint8_t c = 0; c < 128; ++c) keeps_[c] = !Find(&c, &c + 1).has_value();
}

uint32_t Precompiled::UnitAt(size_t place) const {
  return place < units_.size() / 4 ? Load32(units_.data() + 4 * place) : 0;
}

std::optional<std::string_view> Precompiled::Find(const uint8_t* p, const uint8_t* end) const {
  size_t place = Offset(UnitAt(0));
  for (; p != end && *p != 0; ++p) {
    place ^= *p;
    const uint32_t unit = UnitAt(place);
    if (Label(unit) != *p) return std::nullopt;
    place ^= Offset(unit);
    if (HasLeaf(unit)) {
      const size_t begin = Value(UnitAt(place));
      if (begin >= strings_.size() || IsContinuation(static_cast<uint8_t>(strings_[begin]))) return std::string_view();
      return strings_.substr(begin, strings_.find('\0', begin) - begin);
    }
  }
  return std::nullopt;
}

void Precompiled::ApplyToCluster(const uint8_t* p, const uint8_t* end, Buffer<uint8_t>* out) const {
  const auto append = [&](std::string_view text) {
    out->Append(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  };
  if (static_cast<size_t>(end - p) <= kMostClusterBytes) {
    if (const auto found = Find(p, end)) return append(*found);
  }
  while (p != end) {
    const uint32_t bytes = DecodeValid(p).bytes;
    const auto found = Find(p, p + bytes);
    append(found ? *found : std::string_view(reinterpret_cast<const char*>(p), bytes));
    p += bytes;
  }
}

void Precompiled::Apply(std::string_view text, Buffer<uint8_t>* out) const {
  const auto* p = reinterpret_cast<const uint8_t*>(text.data());
  const uint8_t* const end = p + text.size();
  while (p != end) {
    // An ASCII character before another one is a cluster, but for a line break of two; most are kept.
    const uint8_t* q = p;
    while (end - q >= 2 && q[0] < 0x80 && q[1] < 0x80 && keeps_[q[0]] && q[0] != '\r') ++q;
    out->Append(p, static_cast<size_t>(q - p));
    p = q;
    const uint8_t* const cluster_end = ClusterEnd(p, end);
    ApplyToCluster(p, cluster_end, out);
    p = cluster_end;
  }
}

}  // namespace dpsr
