#include "tokenizer_cc/core/buffer.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace dpsr {
namespace {

TEST(BufferTest, KeepsWhatIsAppendedWhileItGrows) {
  Buffer<int32_t> buffer;
  std::vector<int32_t> expected;
  for (int32_t i = 0; i < 1000; ++i) {
    const std::vector<int32_t> some(static_cast<size_t>(i % 5), i);
    buffer.Append(some.data(), some.size());
    expected.insert(expected.end(), some.begin(), some.end());
  }
  ASSERT_EQ(buffer.size(), expected.size());
  EXPECT_EQ(std::vector<int32_t>(buffer.data(), buffer.end()), expected);
}

TEST(BufferTest, ReservedRoomIsWrittenDirectly) {
  Buffer<uint8_t> buffer;
  buffer.Append(reinterpret_cast<const uint8_t*>("ab"), 2);
  buffer.Reserve(100);
  buffer.end()[0] = 'c';
  buffer.Advance(1);
  EXPECT_EQ(std::string(buffer.data(), buffer.end()), "abc");
  buffer.Truncate(1);
  EXPECT_EQ(std::string(buffer.data(), buffer.end()), "a");
  buffer.Clear();
  EXPECT_EQ(buffer.size(), 0u);
}

TEST(BufferTest, ReleasedMemoryOutlivesTheBuffer) {
  Buffer<int64_t>::Memory memory;
  {
    Buffer<int64_t> buffer;
    const int64_t values[] = {1, 2, 3};
    buffer.Append(values, 3);
    memory = buffer.Release();
    EXPECT_EQ(buffer.size(), 0u);
    buffer.Append(values, 1);
    EXPECT_EQ(buffer.data()[0], 1);
  }
  EXPECT_EQ(memory[2], 3);
  EXPECT_NE(Buffer<int64_t>().Release(), nullptr);
}

}  // namespace
}  // namespace dpsr
