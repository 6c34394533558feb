#include "tokenizer_cc/core/text/utf8.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace dpsr {
namespace {

std::vector<uint32_t> Decode(const std::string& text) {
  std::vector<uint32_t> code_points;
  const auto* p = reinterpret_cast<const uint8_t*>(text.data());
  for (const uint8_t* const end = p + text.size(); p != end;) {
    const Decoded decoded = DecodeReplacing(p, end);
    code_points.push_back(decoded.code_point);
    p += decoded.bytes;
  }
  return code_points;
}

TEST(Utf8Test, EveryCodePointSurvives) {
  for (uint32_t code_point = 0; code_point <= 0x10FFFF; ++code_point) {
    if (code_point >= 0xD800 && code_point <= 0xDFFF) continue;
    uint8_t bytes[4];
    const uint32_t size = EncodeUtf8(code_point, bytes);
    const Decoded replacing = DecodeReplacing(bytes, bytes + size);
    const Decoded valid = DecodeValid(bytes);
    ASSERT_EQ(replacing.code_point, code_point);
    ASSERT_EQ(replacing.bytes, size);
    ASSERT_EQ(valid.code_point, code_point);
    ASSERT_EQ(valid.bytes, size);
  }
}

TEST(Utf8Test, EachMaximalSubpartIsOneReplacement) {
  constexpr uint32_t kR = kReplacement;
  const std::vector<std::pair<std::string, std::vector<uint32_t>>> cases = {
      {"\xe2\x82", {kR}},              // a sequence cut off
      {"\xf0\x9f\x98", {kR}},          //
      {"\xe2\x82!", {kR, '!'}},        //
      {"\xed\xa0\x80", {kR, kR, kR}},  // a surrogate
      {"\xc0\x80", {kR, kR}},          // overlong
      {"\xe0\x80\x80", {kR, kR, kR}},
      {"\xf0\x80\x80\x80", {kR, kR, kR, kR}},
      {"\xf4\x90\x80\x80", {kR, kR, kR, kR}},  // above U+10FFFF
      {"\xf5\x80", {kR, kR}},
      {"\x80\xbf", {kR, kR}},
      {"\xff", {kR}},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(Decode(text), expected) << testing::PrintToString(text);
}

}  // namespace
}  // namespace dpsr
