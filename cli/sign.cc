// sealift sign: lays out, measures and signs a linked image by its manifest.
#include <fstream>
#include <iostream>
#include <iterator>

#include "cli/commands.h"
#include "host/sign.h"

namespace sealift::cli {
namespace {

struct Arguments {
  std::string image, manifest, key, output, new_key;
};

int sign_image(const Arguments& a, bool json) {
  if (!a.new_key.empty()) {
    host::generate_key(a.new_key);
    if (!json) std::cout << "new RSA-3072 signing key in " << a.new_key << ": keep it secret\n";
    return 0;
  }
  if (a.image.empty() || a.manifest.empty() || a.key.empty() || a.output.empty()) {
    throw host::Error(Errc::kBadRequest, "give IMAGE, --manifest, --key and --output (or --new-key FILE)");
  }
  std::ifstream in(a.image, std::ios::binary);
  if (!in) throw host::Error(Errc::kWrongEnclave, a.image + ": cannot read the linked image: check the path");
  host::Image image({std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()}, a.image);
  host::sign(image, host::load_manifest(a.manifest), a.key);
  std::ofstream out(a.output, std::ios::binary);
  const auto bytes = image.bytes();
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!out.flush())
    throw host::Error(Errc::kWrongEnclave, a.output + ": cannot write the enclave: check space and rights");
  if (!json) std::cout << a.output << ": signed\n";
  return 0;
}

}  // namespace

void add_sign(CLI::App& app, Context& context) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* sign = add_command(app, context, "sign", "Measure and sign an enclave image by its manifest",
                               "sealift sign app --manifest app.toml --key owner.pem --output app.enclave");
  sign->add_option("image", arguments->image, "Image that the linker made (sealift_add_enclave does all of this)");
  sign->add_option("--manifest", arguments->manifest, "Manifest, TOML (docs/manifest.md)");
  sign->add_option("--key", arguments->key, "RSA-3072 key with exponent 3, PEM");
  sign->add_option("--output", arguments->output, "Where the signed enclave goes");
  sign->add_option("--new-key", arguments->new_key, "Make a signing key in this file, and nothing else");
  sign->callback([arguments, &context] {
    context.chosen = [arguments, &context] { return sign_image(*arguments, context.json); };
  });
}

}  // namespace sealift::cli
