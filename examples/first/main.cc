// Outside: opens the enclave and greets every line of its input.
#include <exception>
#include <iostream>

#include "examples/first/greet.h"
#include "sealift/enclave.h"

int main(int argc, char** argv) try {
  const auto enclave = sealift::Enclave::open(argc > 1 ? argv[1] : "first.enclave");
  for (std::string name; std::getline(std::cin, name);) {
    const auto reply = enclave->call(kGreet, name);
    if (!reply) throw std::runtime_error(sealift::errc_name(reply.error()));
    std::cout << *reply << std::endl;
  }
} catch (const std::exception& error) {
  std::cerr << "first: " << error.what() << '\n';
  return 1;
}
