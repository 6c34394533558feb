#include "tokenizer_cc/core/subwords/graphemes.h"

#include "tokenizer_cc/core/text/hf_unicode.h"
#include "tokenizer_cc/core/text/utf8.h"

namespace dpsr {
namespace {

using hf::Boundary;
using hf::Conjunct;

bool IsControl(Boundary boundary) {
  return boundary == Boundary::kCarriageReturn || boundary == Boundary::kLineFeed || boundary == Boundary::kControl;
}

// Whether Hangul stays together: rules GB6 to GB8.
bool JoinsHangul(Boundary left, Boundary right) {
  const bool vowel = right == Boundary::kVowel, tail = right == Boundary::kTail;
  switch (left) {
    case Boundary::kLead:
      return vowel || right == Boundary::kLead || right == Boundary::kLeadVowel || right == Boundary::kLeadVowelTail;
    case Boundary::kLeadVowel:
    case Boundary::kVowel:
      return vowel || tail;
    case Boundary::kLeadVowelTail:
    case Boundary::kTail:
      return tail;
    default:
      return false;
  }
}

// What of a cluster its next code point depends on.
class Cluster {
 public:
  explicit Cluster(uint16_t flags) { Note(flags); }

  // Takes a code point in, or returns false where the cluster ends before it.
  bool Take(uint16_t flags) {
    if (!Joins(hf::BoundaryOf(flags), hf::ConjunctOf(flags))) return false;
    Note(flags);
    return true;
  }

 private:
  bool Joins(Boundary next, Conjunct conjunct) const {
    if (last_ == Boundary::kCarriageReturn && next == Boundary::kLineFeed) return true;               // GB3
    if (IsControl(last_) || IsControl(next)) return false;                                            // GB4, GB5
    if (next == Boundary::kExtend || next == Boundary::kJoiner) return true;                          // GB9
    if (next == Boundary::kSpacingMark || last_ == Boundary::kPrepend) return true;                   // GB9a, GB9b
    if (linked_ && conjunct == Conjunct::kConsonant) return true;                                     // GB9c
    if (pictographic_ && last_ == Boundary::kJoiner && next == Boundary::kPictographic) return true;  // GB11
    return JoinsHangul(last_, next);
  }

  void Note(uint16_t flags) {
    const bool after_joiner = last_ == Boundary::kJoiner;
    last_ = hf::BoundaryOf(flags);
    const bool extends = last_ == Boundary::kExtend || last_ == Boundary::kJoiner;
    pictographic_ = last_ == Boundary::kPictographic || (pictographic_ && extends && !after_joiner);
    switch (hf::ConjunctOf(flags)) {
      case Conjunct::kConsonant:
        consonant_ = true;
        linked_ = false;
        break;
      case Conjunct::kLinker:
        linked_ = consonant_;
        break;
      case Conjunct::kNone:
        consonant_ = linked_ = false;
        break;
      case Conjunct::kExtend:
        break;
    }
  }

  Boundary last_ = Boundary::kOther;
  bool pictographic_ = false;  // a pictograph, what extends it, and perhaps a joiner
  bool consonant_ = false;     // a consonant of a conjunct, and what extends it
  bool linked_ = false;        // with a linker behind it
};

}  // namespace

const uint8_t* ClusterEnd(const uint8_t* p, const uint8_t* end) {
  const Decoded first = DecodeValid(p);
  Cluster cluster(hf::Flags(first.code_point));
  for (p += first.bytes; p != end;) {
    const Decoded next = DecodeValid(p);
    if (!cluster.Take(hf::Flags(next.code_point))) return p;
    p += next.bytes;
  }
  return end;
}

}  // namespace dpsr
