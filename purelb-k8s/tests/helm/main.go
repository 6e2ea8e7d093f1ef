// Command chart lints and renders a Helm chart as helm itself does, for tests:
//
//	chart lint DIR NAMESPACE VALUES...
//	chart template DIR NAMESPACE VALUES...
package main

import (
	"fmt"
	"os"
	"path"
	"sort"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/cli/values"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
)

// What the chart is rendered for.
var kubernetes = chartutil.KubeVersion{Version: "v1.34.0", Major: "1", Minor: "34"}

func main() {
	if len(os.Args) < 4 {
		fail("chart lint|template DIR NAMESPACE VALUES...")
	}
	dir, namespace := os.Args[2], os.Args[3]
	given, err := (&values.Options{ValueFiles: os.Args[4:]}).MergeValues(nil)
	check(err)
	switch os.Args[1] {
	case "lint":
		result := lint.AllWithKubeVersion(dir, given, namespace, &kubernetes)
		for _, message := range result.Messages {
			if message.Severity >= support.WarningSev {
				fmt.Fprintln(os.Stderr, message)
			}
		}
		if result.HighestSeverity >= support.WarningSev {
			os.Exit(1)
		}
	case "template":
		chart, err := loader.Load(dir)
		check(err)
		check(chartutil.ProcessDependencies(chart, given))
		release := chartutil.ReleaseOptions{Name: "purelb", Namespace: namespace, IsInstall: true}
		capabilities := chartutil.DefaultCapabilities.Copy()
		capabilities.KubeVersion = kubernetes
		all, err := chartutil.ToRenderValues(chart, given, release, capabilities)
		check(err)
		rendered, err := engine.Render(chart, all)
		check(err)
		var names []string
		for name, text := range rendered {
			if path.Ext(name) == ".yaml" && strings.TrimSpace(text) != "" {
				names = append(names, name)
			}
		}
		sort.Strings(names)
		for _, name := range names {
			fmt.Printf("---\n%s\n", rendered[name])
		}
	default:
		fail("lint or template")
	}
}

func check(err error) {
	if err != nil {
		fail(err.Error())
	}
}

func fail(text string) {
	fmt.Fprintln(os.Stderr, text)
	os.Exit(1)
}
