// What is visible of the shared library: this API and nothing of its inside.
#pragma once

#define HYBRIDSTITCH_API __attribute__((visibility("default")))
