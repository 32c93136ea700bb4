// Command pulumi-resource-kubernetes is Pulumi's Kubernetes provider, built from its published Go module.
//
// The program in the module itself embeds generated copies of the two files below, which a module
// archive does not carry; rehearsal/tools lays the originals beside this file before it builds.
package main

import (
	_ "embed"

	kubernetes "github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"
)

var (
	// version is set by the linker, so that it stands only in rehearsal/tools/catalogue.py.
	version string
	//go:embed schema.json
	schema []byte
	//go:embed terraform-mapping.json
	mapping []byte
)

func main() {
	kubernetes.Serve("kubernetes", version, schema, mapping)
}
