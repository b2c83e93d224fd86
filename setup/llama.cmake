# Included by CMake right after llama-cpp-python's project() call (CMAKE_PROJECT_llama_cpp_INCLUDE).
#
# llama-cpp-python forces LLAMA_BUILD_COMMON on in the cache; a normal variable of the same name
# wins over the cache (policy CMP0126). Nothing that the Python package loads links to that library,
# and it is a third of the compile time.
set(LLAMA_BUILD_COMMON OFF)
