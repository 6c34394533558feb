#include "tokenizer_cc/core/hashing.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace dpsr {
namespace {

uint64_t Hash(std::string word) {
  const size_t length = word.size();
  word.append(8, '\xff');
  return HashWord(reinterpret_cast<const uint8_t*>(word.data()), length);
}

Checksum Sum(const std::string& content) {
  return ComputeChecksum(reinterpret_cast<const uint8_t*>(content.data()), content.size());
}

// Buckets are part of the file format: these values, from docs/tokenizer.md by hand, never change.
TEST(HashingTest, ValuesOfTheFormat) {
  EXPECT_EQ(Mix(1), 0xB456BCFC34C2CB2Cu);
  EXPECT_EQ(Hash("sink"), Mix(kWordSeed ^ 0x6B6E6973u));
  EXPECT_EQ(Hash("stainless"), Mix(Mix(kWordSeed ^ 0x73656C6E69617473u) ^ 's'));
  EXPECT_EQ(HashBigram(3, 4), Mix(Mix(3 ^ kBigramSeed) + 4));
  EXPECT_EQ(PackTrigram('#', 's', 'i'), uint64_t{'#'} << 42 | uint64_t{'s'} << 21 | 'i');
}

TEST(HashingTest, WhatLiesBehindAWordDoesNotMatter) {
  for (size_t length = 0; length <= 24; ++length) {
    const std::string word(length, 'a');
    std::string padded = word + std::string(8, '\0');
    EXPECT_EQ(HashWord(reinterpret_cast<const uint8_t*>(padded.data()), length), Hash(word));
  }
}

TEST(HashingTest, WordsOfAllLengthsDiffer) {
  std::set<uint64_t> hashes;
  for (size_t length = 0; length <= 64; ++length) hashes.insert(Hash(std::string(length, 'a')));
  EXPECT_EQ(hashes.size(), 65u);
}

TEST(HashingTest, ReduceCoversTheRangeInOrder) {
  EXPECT_EQ(Reduce(0, 7), 0u);
  EXPECT_EQ(Reduce(~uint64_t{0}, 7), 6u);
  std::set<uint64_t> found;
  uint64_t last = 0;
  for (uint64_t i = 0; i < 70; ++i) {
    const uint64_t reduced = Reduce(i * (~uint64_t{0} / 70), 7);
    EXPECT_GE(reduced, last);
    found.insert(last = reduced);
  }
  EXPECT_EQ(found.size(), 7u);
}

TEST(HashingTest, AChecksumNoticesEveryBitAndTheLength) {
  for (const size_t size : {1, 8, 31, 32, 33, 100}) {
    const std::string content(size, '\x11');
    for (size_t bit = 0; bit < 8 * size; ++bit) {
      std::string damaged = content;
      damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ 1 << bit % 8);
      EXPECT_FALSE(Sum(damaged) == Sum(content)) << size << " bytes, bit " << bit;
    }
    EXPECT_FALSE(Sum(content + '\0') == Sum(content));
  }
}

}  // namespace
}  // namespace dpsr
