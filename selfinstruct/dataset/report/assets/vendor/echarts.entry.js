export { init, use, getInstanceByDom } from "echarts/core";
import { use } from "echarts/core";
import { BarChart, LineChart, SunburstChart } from "echarts/charts";
import { GridComponent, LegendComponent, TooltipComponent } from "echarts/components";
import { SVGRenderer } from "echarts/renderers";
use([BarChart, LineChart, SunburstChart, GridComponent, LegendComponent, TooltipComponent, SVGRenderer]);
