// The hashes that place tokens: of lookups, and of out-of-vocabulary buckets, where they are part of the file format.

#ifndef DPSR_TOKENIZER_CC_CORE_HASHING_H_
#define DPSR_TOKENIZER_CC_CORE_HASHING_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace dpsr {

inline constexpr uint64_t kWordSeed = 0x9E3779B97F4A7C15u;
inline constexpr uint64_t kBigramSeed = 0xC2B2AE3D27D4EB4Fu;
inline constexpr uint64_t kTrigramSeed = 0x165667B19E3779F9u;

// A bijection of 64-bit integers that changes every bit (the finalizer of MurmurHash3).
inline uint64_t Mix(uint64_t x) {
  x = (x ^ x >> 33) * 0xFF51AFD7ED558CCDu;
  x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53u;
  return x ^ x >> 33;
}

// The first `length` <= 8 of at least 8 readable bytes, as a little-endian number.
inline uint64_t LoadPartial(const uint8_t* bytes, size_t length) {
  uint64_t value;
  std::memcpy(&value, bytes, sizeof(value));
  return length >= 8 ? value : value & ((uint64_t{1} << 8 * length) - 1);
}

// Chains Mix over 8-byte blocks; 8 bytes must be readable behind the word. The length needs no place of its own: words
// hold no NUL.
inline uint64_t HashWord(const uint8_t* bytes, size_t length) {
  uint64_t hash = kWordSeed;
  for (; length > 8; bytes += 8, length -= 8) hash = Mix(hash ^ LoadPartial(bytes, 8));
  return Mix(hash ^ LoadPartial(bytes, length));
}

// The same of any bytes; none need be readable behind them.
inline uint64_t HashBytes(const uint8_t* bytes, size_t length) {
  uint64_t hash = Mix(kTrigramSeed ^ length);
  for (; length > 8; bytes += 8, length -= 8) hash = Mix(hash ^ LoadPartial(bytes, 8));
  uint64_t last = 0;
  if (length != 0) std::memcpy(&last, bytes, length);
  return Mix(hash ^ last);
}

inline uint64_t HashBigram(uint64_t first, uint64_t second) { return Mix(Mix(first ^ kBigramSeed) + second); }

// Three code points, packed.
inline uint64_t PackTrigram(uint32_t a, uint32_t b, uint32_t c) {
  return static_cast<uint64_t>(a) << 42 | static_cast<uint64_t>(b) << 21 | c;
}
inline uint64_t HashTrigram(uint64_t packed) { return Mix(packed ^ kTrigramSeed); }

// Maps a hash onto [0, count) by its high bits.
inline uint64_t Reduce(uint64_t hash, uint64_t count) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>(static_cast<Wide>(hash) * count >> 64);
}

// 128 bits over all bytes, from four independent chains; detects damage, does not resist an adversary.
struct Checksum {
  uint64_t high, low;
  bool operator==(const Checksum& other) const { return high == other.high && low == other.low; }
};

inline Checksum ComputeChecksum(const uint8_t* bytes, size_t size) {
  uint64_t lanes[4] = {kWordSeed, kBigramSeed, kTrigramSeed, size};
  uint64_t block[4];
  size_t left = size;
  for (; left >= sizeof(block); bytes += sizeof(block), left -= sizeof(block)) {
    std::memcpy(block, bytes, sizeof(block));
    for (int i = 0; i < 4; ++i) {
      lanes[i] = (lanes[i] ^ block[i]) * 0x9FB21C651E98DF25u;
      lanes[i] ^= lanes[i] >> 29;
    }
  }
  std::memset(block, 0, sizeof(block));
  if (left != 0) std::memcpy(block, bytes, left);
  for (int i = 0; i < 4; ++i) lanes[i] = Mix(lanes[i] ^ block[i]);
  const uint64_t high = Mix(lanes[0] + Mix(lanes[1] + Mix(lanes[2] + Mix(lanes[3]))));
  return {high, Mix(high ^ lanes[0] ^ lanes[2])};
}

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_HASHING_H_
