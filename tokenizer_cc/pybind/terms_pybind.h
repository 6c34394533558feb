#ifndef DPSR_TOKENIZER_CC_PYBIND_TERMS_PYBIND_H_
#define DPSR_TOKENIZER_CC_PYBIND_TERMS_PYBIND_H_

#include <pybind11/pybind11.h>

namespace dpsr {

// Adds the term tokenizer to the module.
void BindTerms(pybind11::module_& module);

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_PYBIND_TERMS_PYBIND_H_
