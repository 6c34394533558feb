# Unit tests of a C++ core by gtest: plain (`make test`) and under sanitizers (`make sanitize`); libFuzzer (`make fuzz`).
# Included by the Makefile of each core, which sets
#   ROOT     this project's directory, relative to the core
#   OUT      directory of the binaries, relative to the core
#   SOURCES  .cc files of the core and of its tests
#   FUZZERS  .cc files of the fuzzers
#   FUZZED   .cc files that these need
# Needs g++ and gtest. Without gtest the first two print what they skip and succeed. Fuzzers need clang.
FLAGS := -std=c++17 -g -O1 -Wall -Wextra -Werror -I$(ROOT)
ADDRESS := -fsanitize=address,undefined -fno-sanitize-recover=all
THREAD := -fsanitize=thread

# The probe has no '#': versions of make differ in how they read one inside $(shell).
HAS_GTEST := $(shell $(CXX) $(CPPFLAGS) -E -x c++ -include gtest/gtest.h /dev/null >/dev/null 2>&1 && echo yes)

CLANG ?= $(shell command -v clang++ || command -v clang++-14)
FUZZ_SECONDS ?= 600

.PHONY: test sanitize skipped
ifeq ($(HAS_GTEST),yes)
test: $(OUT)/core_test
	$< --gtest_brief=1

sanitize: $(OUT)/core_test.address $(OUT)/core_test.thread
	$(OUT)/core_test.address --gtest_brief=1
	$(OUT)/core_test.thread --gtest_brief=1

skipped:
	@:
else
test sanitize skipped:
	@echo "SKIPPED: the C++ unit tests of $(CURDIR) need gtest; to install it: make deps-cc (root), or your system's libgtest-dev"
endif

# $(1): suffix of the binary; $(2): flags of the sanitizer.
define binary
$(OUT)/core_test$(1): $(SOURCES:%.cc=$(OUT)/objects$(1)/%.o)
	$(CXX) $(2) $$^ -o $$@ -lgtest -lgtest_main -pthread

$(OUT)/objects$(1)/%.o: %.cc Makefile $(ROOT)/ops_cc/core/unit_tests.mk
	@mkdir -p $$(@D)
	$(CXX) $(CPPFLAGS) $(FLAGS) $(2) -MMD -MP -c $$< -o $$@

-include $(SOURCES:%.cc=$(OUT)/objects$(1)/%.d)
endef
$(eval $(call binary,,))
$(eval $(call binary,.address,$(ADDRESS)))
$(eval $(call binary,.thread,$(THREAD)))

# The fuzzers themselves make the seeds.
.PHONY: fuzz
fuzz: $(addprefix $(OUT)/,$(basename $(notdir $(FUZZERS))))
	for fuzzer in $^; do \
	    mkdir -p $$fuzzer.corpus && $$fuzzer $$fuzzer.corpus -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=20 \
	        -artifact_prefix=$(OUT)/ -print_final_stats=1 -verbosity=0 || exit 1; \
	done

$(OUT)/objects.fuzz/%.o: %.cc Makefile $(ROOT)/ops_cc/core/unit_tests.mk
	@test -n "$(CLANG)" || { echo "no clang++ for libFuzzer; to install it: make deps-cc (root), or your system's clang"; exit 1; }
	@mkdir -p $(@D)
	$(CLANG) $(FLAGS) $(ADDRESS) -fsanitize=fuzzer-no-link -MMD -MP -c $< -o $@

OBJECTS_TO_FUZZ := $(FUZZED:%.cc=$(OUT)/objects.fuzz/%.o)
.SECONDARY: $(OBJECTS_TO_FUZZ)
$(OUT)/%_fuzzer: $(OBJECTS_TO_FUZZ) $(FUZZERS)
	$(CLANG) $(FLAGS) $(ADDRESS) -fsanitize=fuzzer $(OBJECTS_TO_FUZZ) $(filter $*_fuzzer.cc %/$*_fuzzer.cc,$(FUZZERS)) -o $@ -pthread

-include $(OBJECTS_TO_FUZZ:.o=.d)
