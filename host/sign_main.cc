// sealift-sign: what the build calls. `sealift sign` is the same with help for people.
#include <cstdio>
#include <fstream>
#include <iterator>

#include "host/sign.h"

namespace {

void print_mrsigner(const std::string& key) {
  for (const std::uint8_t byte : sealift::host::mrsigner_of_key(key).bytes) std::printf("%02x", byte);
  std::printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
  using namespace sealift::host;
  const std::string option = argc == 3 ? argv[1] : "";
  if (option == "--new-key" || option == "--mrsigner") {
    try {
      option == "--new-key" ? generate_key(argv[2]) : print_mrsigner(argv[2]);
      return 0;
    } catch (const Error& e) {
      std::fprintf(stderr, "sealift-sign: %s\n", e.what());
      return 1;
    }
  }
  if (argc != 5) {
    std::fprintf(stderr,
                 "usage: sealift-sign ELF MANIFEST KEY OUTPUT | sealift-sign --new-key KEY | "
                 "sealift-sign --mrsigner KEY\n");
    return 2;
  }
  try {
    std::ifstream in(argv[1], std::ios::binary);
    if (!in) throw Error(sealift::Errc::kWrongEnclave, std::string(argv[1]) + ": cannot read the linked image");
    Image image({std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()}, argv[1]);
    sign(image, load_manifest(argv[2]), argv[3]);
    std::ofstream out(argv[4], std::ios::binary);
    out.write(reinterpret_cast<const char*>(image.bytes().data()), static_cast<std::streamsize>(image.bytes().size()));
    if (!out.flush()) throw Error(sealift::Errc::kWrongEnclave, std::string(argv[4]) + ": cannot write the enclave");
  } catch (const Error& e) {
    std::fprintf(stderr, "sealift-sign: %s\n", e.what());
    return 1;
  }
  return 0;
}
