#include "tokenizer_cc/core/terms/query_key.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace dpsr {
namespace {

TEST(QueryKeyTest, SpacesCasePluralsAndMarksDoNotCount) {
  QueryKeyer keyer;
  const uint64_t key = keyer.Key("black ops 2");
  for (const char* same : {"Black-Ops 2", "blackops2", "  BLACK   OP 2 ", "black ops２"}) {
    EXPECT_EQ(keyer.Key(same), key) << same;
  }
  for (const char* other : {"ops black 2", "black ops", "black ops 22", ""}) EXPECT_NE(keyer.Key(other), key) << other;
}

TEST(QueryKeyTest, NumbersStayApart) {
  QueryKeyer keyer;
  EXPECT_NE(keyer.Key("5 10"), keyer.Key("510"));
  EXPECT_NE(keyer.Key("size 1 12"), keyer.Key("size 11 2"));
  EXPECT_EQ(keyer.Key("5 x 10"), keyer.Key("5x10"));
}

TEST(QueryKeyTest, TextWithoutATermHasNoKey) {
  QueryKeyer keyer;
  EXPECT_EQ(keyer.Key(""), QueryKeyer::kNoKey);
  EXPECT_EQ(keyer.Key(" - ."), QueryKeyer::kNoKey);
  EXPECT_NE(keyer.Key("👍"), QueryKeyer::kNoKey);
}

TEST(QueryKeyTest, NoCollisionAmongManyLongQueries) {
  QueryKeyer keyer;
  std::set<uint64_t> keys;
  for (int i = 0; i < 20000; ++i) keys.insert(keyer.Key("a rather long query number " + std::to_string(i)));
  EXPECT_EQ(keys.size(), 20000u);
}

}  // namespace
}  // namespace dpsr
