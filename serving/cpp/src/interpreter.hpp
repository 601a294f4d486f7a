// The Python that is embedded: found, started once, and never ended.
#pragma once

#include <string>

namespace hybridstitch {

// Starts Python in an environment (empty: as Options::venv says), unless this process runs it already.
// Throws StartError: no environment, one of another Python, or another than the one that runs.
void start_python(const std::string& venv);

// What to add to a failed start: that the loader found the libpython of another build than this library's; else empty.
std::string another_python();

}  // namespace hybridstitch
